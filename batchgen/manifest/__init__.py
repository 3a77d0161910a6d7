"""The user's table: files → typed prompt rows, with a complaint for whatever in them cannot be used.

Knows formats, columns and what a row may say; knows no image rows, no models and no Ray. From the outside in: sources →
parquet, lines (jsonl, delimited) → columns, values, checks.
"""
