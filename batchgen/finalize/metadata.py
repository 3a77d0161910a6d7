"""The metadata table of a run, piece by piece: rows of data files, failures and skipped rows, each once and newest.

What a row asks for comes from the plan, what became of it from its data file, or from the ledger, which says the same.
Knows plans, data files and the ledger; not whether the run is complete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.run import ledger
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.directory import Run, read_shards
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path
from batchgen.run.plans import Plan, are_among
from batchgen.run.reading import in_order

READERS = 64  # of data files, each of which is two or three requests on S3
ROWS_HELD = 2_000_000  # of which entries of the ledger are held at once, in about 150 bytes each


OVERFLOW = ("overflow_clip_l", "overflow_clip_g", "overflow_t5", "t5_over_256", "negative_overflow")


@dataclass
class Totals:
    """What the run holds. images + failed is all that was planned.

    sizes: images by the height × width of their pictures. cells: images. overflow: images by the columns that say it.
    prompts: rows of the table by cell, as many of which have a first sample. samples: the most that a prompt has in a
    cell. seeds: the lowest and the highest; empty where none is known.
    """

    images: int = 0
    failed: int = 0
    suspect: int = 0
    split: int = 0
    device_seconds: float = 0.0
    codes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    cells: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    seeds: list[int] = field(default_factory=list)

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
        self._add_contents(table.filter(pc.equal(table["status"], "ok")))
        first = pc.and_(pc.is_valid(table["shard"]), pc.equal(table["sample_index"], 0))
        self.prompts.update(_counted(table.filter(first)["cell"]))

    def _add_contents(self, images: pa.Table) -> None:
        """What there is of which kind."""
        for row in images.group_by(["image_height", "image_width"]).aggregate([([], "count_all")]).to_pylist():
            self.sizes[f"{row['image_height']} × {row['image_width']}"] += row["count_all"]
        self.cells.update(_counted(images["cell"]))
        self.overflow.update({name: count for name in OVERFLOW if (count := pc.sum(images[name]).as_py())})
        self.samples = max(self.samples, 1 + (pc.max(images["sample_index"]).as_py() or 0) if len(images) else 0)
        seeds = [seed for seed in (*self.seeds, *pc.min_max(images["seed"]).as_py().values()) if seed is not None]
        self.seeds = [min(seeds), max(seeds)] if seeds else []


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}


def metadata(run: Run, only: set[int] | None = None, sizes: Mapping[int, int] | None = None) -> Iterator[pa.Table]:
    """The metadata table, a piece for each file of the plan in order of shards, then the skipped rows of each plan.

    only: numbers of the shards to read; without it all, and one that is missing is an error. A row that stands in
    several generations is that of the newest. sizes: of the data files; what the ledger says of files of these sizes is
    believed. Without it each file is read, and the table is the same.
    """
    for plan in run.plans:
        replaced = run.replaced_after(plan)
        shards = [shard for shard in run.shards(plan) if only is None or shard.number in only]
        extras: list[pa.Field] = []
        for table in _of_shards(run, plan, replaced, shards, sizes):
            extras = schema.extras_of(table.schema)
            yield table
        for rows in run.skipped(plan):
            rows = rows.filter(pc.invert(are_among(replaced, rows)))
            yield _skipped(plan, rows)
        if not shards and not plan.skipped and len(run.plans) == 1:
            yield schema.metadata_schema(extras).empty_table()


def _of_shards(
    run: Run, plan: Plan, replaced: set[str], shards: list[ShardRef], sizes: Mapping[int, int] | None
) -> Iterator[pa.Table]:
    for window in _windows(shards):
        here = {shard.number: sizes[shard.number] for files in window for shard in files} if sizes else {}
        known = ledger.entries(run.store, here) if here else {}
        entries = read_shards(
            [shard for files in window for shard in files], partial(_entry, run, known, here), READERS
        )
        rows = in_order(window, partial(run.rows_of_file, plan), readers=1, window=2)
        for files, planned in zip(window, rows, strict=True):
            try:
                joined = _joined(plan, replaced, planned, [next(entries) for _ in files])
            except ValueError as error:
                raise Infrastructure(f"{run.store}/{error}. Run batchgen doctor.") from error
            yield joined


def _windows(shards: list[ShardRef]) -> Iterator[list[list[ShardRef]]]:
    """Shards by the files of the plan in which they stand, so many files at a time as the ledger is held of."""
    window, rows = list[list[ShardRef]](), 0
    for _, group in groupby(shards, key=lambda shard: shard.file):
        window.append(list(group))
        rows += sum(shard.rows for shard in window[-1])
        if rows >= ROWS_HELD:
            yield window
            window, rows = [], 0
    if window:
        yield window


def _entry(run: Run, known: Mapping[int, pa.Table], sizes: Mapping[int, int], shard: ShardRef) -> pa.Table:
    """What is to be known of a data file: by the ledger, or else from the file itself."""
    entry = known.get(shard.number)
    if entry is not None and len(entry) == shard.rows:
        return entry
    path = data_path(shard.number)
    try:
        with run.store.open_file(path, sizes.get(shard.number)) as opened:
            return ledger.read_entry(opened)
    except FileNotFoundError as error:
        raise Infrastructure(f"{run.store}/{path}: is missing. Run the same command again to render it.") from error
    except DAMAGED as error:
        raise Infrastructure(f"{run.store}/{path}: cannot be read ({error}). Run batchgen doctor.") from error


def _joined(plan: Plan, replaced: set[str], planned: pa.Table, told: list[pa.Table]) -> pa.Table:
    """Rows of the plan with what became of them, but for failures that a later generation has.

    told: the entry of each shard. Raises ValueError, which names the data file, unless each holds exactly its rows.
    """
    entries = pa.concat_tables(told).combine_chunks()
    at = pc.index_in(entries["image_id"], planned["image_id"].combine_chunks())
    if len(entries) != len(planned) or at.null_count or len(pc.unique(at)) != len(planned):
        raise ValueError(_other(plan, planned, told))
    rows = planned.take(at).combine_chunks()
    if rows["shard"] != entries["shard"] or pc.unique(entries["plan"]).to_pylist() != [plan.plan]:
        raise ValueError(_other(plan, planned, told))
    kept = pc.invert(pc.and_(pc.is_valid(entries["error_code"]), are_among(replaced, entries)))
    return _filled(plan, rows.filter(kept), entries.filter(kept))


def _other(plan: Plan, planned: pa.Table, told: list[pa.Table]) -> str:
    """What is wrong with the first data file that has other rows than were planned for it."""
    for number, entry in zip(pc.unique(planned["shard"]).to_pylist(), told, strict=True):
        wanted = planned.filter(pc.equal(planned["shard"], number))["image_id"].to_pylist()
        said = {*zip(entry["shard"].to_pylist(), entry["plan"].to_pylist(), strict=True)}
        if sorted(entry["image_id"].to_pylist()) != sorted(wanted) or said != {(number, plan.plan)}:
            return f"{data_path(number)}: does not hold the rows of its plan"
    raise AssertionError("all data files hold the rows of their plan")


def _filled(plan: Plan, rows: pa.Table, entries: pa.Table) -> pa.Table:
    """All metadata columns of these rows: as planned, as rendered, as their shards say, in this order."""
    target = schema.metadata_schema(schema.extras_of(rows.schema))
    failed = pc.is_valid(entries["error_code"])
    of_shards = _constants(plan, entries, failed)
    known: dict[str, Any] = {
        "status": pc.if_else(failed, "failed", "ok"),
        "file": pc.if_else(failed, pa.scalar(None, pa.string()), _paths(entries["shard"])),
        "planned_batch_size": pc.if_else(failed, rows["batch_size"], entries["planned_batch_size"]),
    }
    columns = [
        known[name] if name in known
        else of_shards[name] if name in of_shards
        else entries[name] if name in _OF_ENTRIES
        else rows[name] if name in rows.column_names
        else pa.nulls(len(rows), target.field(name).type)
        for name in target.names
    ]  # fmt: skip
    return pa.table(columns, schema=target)


_OF_ENTRIES = {"shard", "error_code", "error_message", *(field.name for field in schema.RENDER_FIELDS)}


def _paths(shards: pa.ChunkedArray) -> pa.Array:
    encoded = shards.combine_chunks().dictionary_encode()
    paths = pa.array([data_path(number) for number in encoded.dictionary.to_pylist()], pa.string())
    return paths.take(encoded.indices)


def _constants(plan: Plan, entries: pa.Table, failed: pa.ChunkedArray) -> dict[str, pa.Array]:
    """Columns of what is the same for all rows of a shard; a row that failed has what the plan says."""
    encoded = entries["constants"].combine_chunks().dictionary_encode()
    said = encoded.dictionary.to_pylist()
    at = pc.if_else(failed, len(said), encoded.indices)
    try:
        columns = _columns([*map(_parsed, said), plan.constants()])
    except ValueError:
        for code, text in enumerate(said):  # which of them is it?
            try:
                _columns([_parsed(text)])
            except ValueError as error:
                first = pc.index(encoded.indices, code).as_py()
                path = data_path(entries["shard"][first].as_py())
                raise ValueError(f"{path}: says of itself what no shard does ({error})") from error
        raise
    return {name: column.take(at) for name, column in columns.items()}


def _parsed(constants: str) -> dict[str, Any]:
    with found_damaged():
        said: dict[str, Any] = json.loads(constants)
        return said | {"versions": json.dumps(said["versions"], sort_keys=True)}


def _columns(constants: list[dict[str, Any]]) -> dict[str, pa.Array]:
    with found_damaged():
        fields = schema.CONSTANT_FIELDS
        return {one.name: pa.array([values.get(one.name) for values in constants], one.type) for one in fields}


def _skipped(plan: Plan, rows: pa.Table) -> pa.Table:
    """Rows that were never rendered."""
    target = schema.metadata_schema(schema.extras_of(rows.schema))
    same = plan.constants() | {"status": "failed"}
    moved = {"error_code": "skip_code", "error_message": "skip_message", "planned_batch_size": "batch_size"}
    columns = []
    for name, kind in zip(target.names, target.types, strict=True):
        source = moved.get(name, name)
        if name in same:
            columns.append(pa.repeat(pa.scalar(same[name], kind), len(rows)))
        elif source in rows.column_names and name != "batch_size":
            columns.append(rows[source])
        else:
            columns.append(pa.nulls(len(rows), kind))
    return pa.table(columns, schema=target)
