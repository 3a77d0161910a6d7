"""The metadata table of a run, piece by piece: rows of data files, failures and skipped rows, each once and newest.

Knows plans and data files; not whether the run is complete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.run.damage import found_damaged
from batchgen.run.directory import Run, read_shard, read_shards
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path
from batchgen.run.plans import Plan, are_among
from batchgen.run.shard_file import Footer


@dataclass
class Totals:
    """What the run holds. images + failed is all that was planned."""

    images: int = 0
    failed: int = 0
    suspect: int = 0
    split: int = 0
    device_seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def planned(self) -> int:
        return self.images + self.failed

    def add(self, table: pa.Table) -> None:
        """Count a piece of the metadata table."""
        failed = table.filter(pc.equal(table["status"], "failed"))
        self.failed += len(failed)
        self.images += len(table) - len(failed)
        self.codes.update(failed["error_code"].to_pylist())
        self.suspect += table["suspect"].drop_null().length()
        split = pc.not_equal(table["batch_size"], table["planned_batch_size"])
        self.split += pc.sum(split).as_py() or 0
        self.device_seconds += pc.sum(table["render_seconds"]).as_py() or 0.0


def metadata(run: Run, only: set[int] | None = None) -> Iterator[pa.Table]:
    """The metadata table, a piece per shard in order of shards, then the skipped rows of each plan.

    only: numbers of the shards to read; without it all, and one that is missing is an error. A row that stands in
    several generations is that of the newest.
    """
    for plan in run.plans:
        replaced = run.replaced_after(plan)
        shards = [shard for shard in run.shards(plan) if only is None or shard.number in only]
        extras: list[pa.Field] = []
        for table in read_shards(shards, partial(_shard, run, plan, replaced)):
            extras = schema.extras_of(table.schema)
            yield table
        for rows in run.skipped(plan):
            rows = rows.filter(pc.invert(are_among(replaced, rows)))
            yield _failed(plan, rows, rows["skip_code"], rows["skip_message"])
        if not shards and not plan.skipped and len(run.plans) == 1:
            yield schema.metadata_schema(extras).empty_table()


def _shard(run: Run, plan: Plan, replaced: set[str], shard: ShardRef) -> pa.Table:
    """Good rows from the data file, failed rows that no later generation has from the plan.

    Raises Infrastructure unless these are all its rows.
    """
    planned = run.rows(plan, shard)
    footer, good = read_shard(run, shard.number)
    path = data_path(shard.number)
    try:
        with found_damaged():
            ids, found = planned["image_id"].to_pylist(), [*good["image_id"].to_pylist(), *footer.failures]
            if footer.plan != plan.plan or sorted(found) != sorted(ids):
                raise ValueError("other rows")
            pieces = [_succeeded(good, footer, shard, schema.extras_of(planned.schema))]
    except ValueError as error:
        raise Infrastructure(
            f"{run.store}/{path}: does not hold the rows of its plan ({error}). Run batchgen doctor."
        ) from error
    failed = planned.filter(are_among(footer.failures.keys() - replaced, planned))
    if len(failed):
        why = [footer.failures[image_id] for image_id in failed["image_id"].to_pylist()]
        pieces.append(_failed(plan, failed, [item.code for item in why], [item.message for item in why]))
    return pa.concat_tables(pieces)


def _succeeded(good: pa.Table, footer: Footer, shard: ShardRef, extras: list[pa.Field]) -> pa.Table:
    constants = footer.constants | {"versions": json.dumps(footer.constants["versions"], sort_keys=True)}
    status = {"status": "ok", "error_code": None, "error_message": None}
    return _fill(good, constants | status | {"shard": shard.number, "file": data_path(shard.number)}, extras)


def _failed(plan: Plan, rows: pa.Table, codes: object, messages: object) -> pa.Table:
    planned = rows["batch_size"]
    rows = rows.drop_columns(["batch_size"])
    values = plan.constants() | {"status": "failed", "error_code": codes, "error_message": messages}
    rows = rows.append_column("planned_batch_size", planned)
    return _fill(rows, values | {"shard": rows["shard"]}, schema.extras_of(rows.schema))


def _fill(rows: pa.Table, values: dict[str, object], extras: list[pa.Field]) -> pa.Table:
    """The rows with all metadata columns: constants repeated, known columns as they are, the rest null."""
    target = schema.metadata_schema(extras)
    columns = [_column(rows, values, name, target.field(name).type) for name in target.names]
    return pa.table(columns, schema=target)


def _column(rows: pa.Table, values: dict[str, object], name: str, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if name not in values:
        return rows[name] if name in rows.column_names else pa.nulls(len(rows), kind)
    value = values[name]
    if isinstance(value, pa.ChunkedArray):
        return value
    whole_column = isinstance(value, list) and not pa.types.is_list(kind)
    return pa.array(value if whole_column else [value] * len(rows), kind)
