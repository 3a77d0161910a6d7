"""The index of a plan: one row for each shard, with what must be known of it before its rows are read.

Knows the columns of schema.SHARD_FIELDS; not where the index lies, nor who renders the shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.schema import SHARD_FIELDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRef:
    """Where the rows of one shard stand in its plan, and what they cost.

    number: its name in data/. file, row_group: of the plan's rows. label: of its bucket. cost_tflop: of all its rows.
    """

    number: int
    file: str
    row_group: int
    rows: int
    batch_size: int
    height: int
    width: int
    label: str
    cost_tflop: float

    @property
    def tflop_per_image(self) -> float:
        return self.cost_tflop / self.rows


# Fields of a ShardRef, in the order of the index's columns.
_NAMES = {"shard": "number", "bucket": "label"}
_FIELDS = {field.name: _NAMES.get(field.name, field.name) for field in SHARD_FIELDS}


def to_table(shards: Iterable[ShardRef]) -> pa.Table:
    rows = [{column: getattr(shard, name) for column, name in _FIELDS.items()} for shard in shards]
    return pa.Table.from_pylist(rows, schema=pa.schema(SHARD_FIELDS))


def from_table(index: pa.Table) -> list[ShardRef]:
    """In order of their numbers; columns that another version added are passed over."""
    columns = [_values(index[name]) for name in _FIELDS]
    return [ShardRef(**dict(zip(_FIELDS.values(), row, strict=True))) for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Equal texts as one object: an index has few buckets and few files, and hundreds of thousands of rows."""
    values: list[Any]
    if not pa.types.is_string(column.type):
        values = column.to_pylist()
        return values
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    return [texts[code] for code in encoded.indices.to_pylist()]
