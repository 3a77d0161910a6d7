"""The index of a plan: one row for each shard, with what must be known of it before its rows are read.

Knows the columns of schema.SHARD_FIELDS; not where the index lies, nor who renders the shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    return [ShardRef(**{_FIELDS[name]: row[name] for name in _FIELDS}) for row in index.to_pylist()]
