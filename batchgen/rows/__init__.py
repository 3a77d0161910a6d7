"""Prompt rows → image rows: sizes, cells, seeds, names, tokens, buckets.

Knows no files and no Ray.
"""
