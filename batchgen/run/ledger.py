"""The ledger: what whoever stored a shard knew of it, many shards in a file, so that nobody need open each again.

An entry is a table: a row for each image of one data file, with all that its plan does not say. A data file is created
once, so an entry stays true for as long as that file lies there: `forget` what is missing before it is rendered again.
A ledger file has the digest of its bytes as its name, so writing it twice changes nothing and damage shows. Losing one
costs time only: what the ledger does not say is read from the data files, and the answer is the same.

Knows no plans, and not how an entry becomes a row of the metadata table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.layout import HIDDEN
from batchgen.run.parquet import open_parquet, read_parquet
from batchgen.run.plans import digest, to_parquet
from batchgen.run.reading import in_order
from batchgen.run.shard_file import Footer
from batchgen.storage.store import Store

FOLDER = f"{HIDDEN}/ledger"
SHARDS_PER_FILE = 256  # what a driver that is killed can lose: that many data files are read again
PATIENCE_S = 30.0  # nobody waits longer for a store that is busy: the ledger can do without

SCHEMA = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),  # bytes of the data file
        pa.field("plan", pa.string(), nullable=False),
        pa.field("attempt_id", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("error_code", pa.string()),  # null where there is a picture
        pa.field("error_message", pa.string()),
        pa.field("constants", pa.string(), nullable=False),  # JSON: schema.CONSTANT_FIELDS of its footer
        *schema.RENDER_FIELDS,
    ]
)
_CONSTANT = {field.name for field in schema.CONSTANT_FIELDS}
_RENDERED = [field.name for field in schema.RENDER_FIELDS]


def read_entry(file: BinaryIO) -> pa.Table:
    """The entry of a data file: its pictures in order, then its failures. Raises what is in damage.DAMAGED."""
    with found_damaged():
        size = file.seek(0, 2)
        parquet = open_parquet(file)
        there = parquet.schema_arrow
        footer = Footer.from_metadata(there.metadata)
        good = parquet.read(["image_id", *(name for name in _RENDERED if name in there.names)], use_threads=False)
        return _entry(footer, good, size)


def _entry(footer: Footer, good: pa.Table, size: int) -> pa.Table:
    why, rows = footer.failures.values(), len(good) + len(footer.failures)
    same = {
        "shard": footer.shard,
        "size": size,
        "plan": footer.plan,
        "attempt_id": footer.attempt_id,
        "constants": json.dumps({name: value for name, value in footer.constants.items() if name in _CONSTANT}),
    }
    nothing = [None] * len(good)
    listed = {
        "image_id": [*good["image_id"].to_pylist(), *footer.failures],
        "error_code": [*nothing, *(one.code for one in why)],
        "error_message": [*nothing, *(one.message for one in why)],
    }
    columns = []
    for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True):
        if name in same:
            columns.append(pa.repeat(pa.scalar(same[name], kind), rows))
        elif name in listed:
            columns.append(pa.array(listed[name], kind))
        else:
            known = good[name].combine_chunks() if name in good.column_names else pa.nulls(len(good), kind)
            columns.append(pa.concat_arrays([known.cast(kind), pa.nulls(len(why), kind)]))
    return pa.table(columns, schema=SCHEMA)


def pack(entry: pa.Table) -> bytes:
    """As it travels from a renderer to its driver."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_table(entry)
    return bytes(sink.getvalue())


def unpack(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


class Writer:
    """`with Writer(store) as ledger`: add() entries as shards are stored; what is waiting at the end is written too."""

    def __init__(self, store: Store) -> None:
        self._store = store.at_most(PATIENCE_S)
        self._waiting: dict[int, pa.Table] = {}

    def add(self, shard: int, entry: pa.Table) -> None:
        """One shard may come twice: another renderer looked at it, and found it stored."""
        self._waiting[shard] = entry
        if len(self._waiting) >= SHARDS_PER_FILE:
            self.write()

    def write(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(entry for _, entry in sorted(self._waiting.items()))
        self._waiting = {}
        data = to_parquet(table.combine_chunks())
        try:
            self._store.replace(_path(data), data)
        except Infrastructure:
            return  # these shards are read from their files

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()


def forget(store: Store, shards: Collection[int]) -> None:
    """Remove what is said of shards whose data files are gone, with all that stands in the same files."""
    gone = pa.array(sorted(shards), pa.int32())
    for path, table in _tables(store, ["shard"]):
        if table is None or pc.any(pc.is_in(table["shard"], gone)).as_py():
            store.delete(path)


def damaged(store: Store) -> Iterator[str]:
    """Paths of ledger files that are not as they were written."""
    yield from (path for path, table in _tables(store, ["shard"]) if table is None)


def entries(store: Store, sizes: Mapping[int, int]) -> dict[int, pa.Table]:
    """The entries of these shards by number, of those whose data file still has the size that it had.

    Of a shard that two entries describe differently there is none.
    """
    found: dict[int, pa.Table] = {}
    torn = set[int]()
    wanted = pa.array(sorted(sizes), pa.int32())
    for _, table in _tables(store):
        if table is None:
            continue
        table = table.filter(pc.is_in(table["shard"], wanted)).combine_chunks()
        for number, entry in _by_shard(table):
            before = found.setdefault(number, entry)
            if before is not entry and before["attempt_id"][0] != entry["attempt_id"][0]:
                torn.add(number)
    return {
        number: entry
        for number, entry in found.items()
        if number not in torn and entry["size"][0].as_py() == sizes[number]
    }


def _by_shard(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    numbers = table["shard"].to_numpy()
    ends = [*np.flatnonzero(numbers[1:] != numbers[:-1]) + 1, len(numbers)] if len(numbers) else []
    for start, end in pairwise([0, *ends]):
        yield int(numbers[start]), table.slice(start, end - start)


def _tables(store: Store, columns: list[str] | None = None) -> Iterator[tuple[str, pa.Table | None]]:
    """Each ledger file, by path; None where it is damaged."""

    def read(path: str) -> pa.Table | None:
        try:
            data = store.read(path)
            if _path(data) != path:
                return None
            with found_damaged():
                table = read_parquet(data, columns)
                return table if columns else table.cast(SCHEMA)
        except FileNotFoundError:
            return pa.table({name: [] for name in columns}) if columns else SCHEMA.empty_table()  # forgotten since
        except DAMAGED:
            return None

    paths = [entry.path for entry in store.list(FOLDER) if re.fullmatch(rf"{FOLDER}/\w+\.parquet", entry.path)]
    yield from zip(paths, in_order(paths, read), strict=True)


def _path(data: bytes) -> str:
    return f"{FOLDER}/{digest(data)[:32]}.parquet"
