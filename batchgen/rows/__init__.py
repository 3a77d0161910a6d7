"""Prompt rows → image rows: sizes, cells, seeds, names, tokens, buckets.

Knows what a job asks of each row; knows no file formats, no shards and no Ray. expand leads; grid says what cells ask
for, sizes and taken what a model cannot make, tokens what it cannot read, naming and identity what a row is called.
"""
