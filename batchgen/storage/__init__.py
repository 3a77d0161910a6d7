"""Files by relative path on a disk or an object store: create once, retry, explain; a remote directory copied here.

Knows no Parquet and not what any file means.
"""
