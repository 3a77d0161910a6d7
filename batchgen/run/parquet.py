"""Reads the small Parquet files of a run in the caller's thread. Knows no file by name and no column.

Several are read at once as it is, and handing short columns to Arrow's own threads takes longer than reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Source = Any  # a binary file, or a pa.BufferReader


def open_parquet(source: Source) -> pq.ParquetFile:
    """Whose pages are checked as they are read, and whose columns come in few large reads: each is a request on S3."""
    return pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=True)


def read_parquet(source: Source | bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows. Raises what is in damage.DAMAGED, and more, where it is damaged."""
    opened = open_parquet(pa.BufferReader(source) if isinstance(source, bytes) else source)
    return opened.read(columns, use_threads=False)
