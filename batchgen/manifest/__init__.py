"""The user's table: which files it is made of (sources), and what image rows its prompt rows become (expand).

Knows no Ray and no torch. From the outside in: sources → parquet, lines (jsonl, delimited) → columns, values, rows →
expand, naming.
"""
