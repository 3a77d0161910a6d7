"""The pictures of a run as numbered rows to train on: their sizes, and their columns with nothing that is null.

What a column is, is one for the whole run, as batches are made of rows from anywhere. Reads whole data files. Knows no
torch, and not in which order rows are wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.errors import Infrastructure, Problem, Refused
from batchgen.look.epoch import Ints
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.parquet import open_parquet
from batchgen.storage.store import Store
from batchgen.words import nearest

ALWAYS = ["image_id", "image_height", "image_width"]
SHOWN = 5


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of data/. first, count: its rows among all. image_ids: those that are wanted, None for all."""

    path: str
    first: int
    count: int
    image_ids: pa.Array | None


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """files: in the order of the run. file_of: of each row. height, width: of its picture.

    columns: name → its type, beside the picture; a column of numbers that has nulls is of float64.
    """

    store: Store
    files: tuple[DataFile, ...]
    file_of: Ints
    height: Ints
    width: Ints
    columns: dict[str, pa.DataType]

    @classmethod
    def of(
        cls,
        store: Store,
        tables: Iterable[pa.Table],
        columns: Sequence[str] | None,
        image_ids: Collection[str] | None,
    ) -> TrainingRows:
        """tables: the metadata. columns: those to read; None is all that are not null throughout.

        image_ids: of the pictures to read; None is all. Raises Refused with everything that is not there.
        """
        wanted = None if image_ids is None else pa.array(sorted(set(image_ids)), pa.string())
        found, types, nulls, rows = list[pa.Table](), dict[str, pa.DataType](), dict[str, int](), 0
        for table in tables:
            table = table.filter(pc.equal(table["status"], "ok"))
            if wanted is not None:
                table = table.filter(pc.is_in(table["image_id"], value_set=wanted))
            for field in schema.image_schema(schema.extras_of(table.schema)):
                if field.name in table.column_names:
                    types.setdefault(field.name, field.type)
                    nulls[field.name] = nulls.get(field.name, 0) + table[field.name].null_count
            rows += len(table)
            found.append(table.select(["file", *ALWAYS]))
        _refuse(store, columns, types, wanted, found, rows)
        asked = [name for name in types if nulls[name] < rows] if columns is None else [*dict.fromkeys(columns)]
        kinds = {name: _kind(types[name], nulls[name] > 0) for name in asked if name != "image"}
        return cls._numbered(store, found, kinds, wanted is not None)

    @classmethod
    def _numbered(cls, store: Store, found: list[pa.Table], kinds: dict[str, pa.DataType], some: bool) -> TrainingRows:
        table = pa.concat_tables(found).combine_chunks()
        names = table["file"].combine_chunks().dictionary_encode()
        file_of = np.asarray(names.indices, np.int64)
        if np.any(np.diff(file_of) < 0):
            raise Infrastructure(f"{store}: its metadata is not in the order of its files. Run batchgen doctor.")
        edges = np.searchsorted(file_of, np.arange(len(names.dictionary) + 1))
        files = tuple(
            DataFile(
                path,
                int(first),
                int(end - first),
                table["image_id"].slice(first, end - first).combine_chunks() if some else None,
            )
            for path, first, end in zip(names.dictionary.to_pylist(), edges[:-1], edges[1:], strict=True)
        )
        height, width = (np.asarray(table[name], np.int64) for name in ("image_height", "image_width"))
        return cls(store, files, file_of, height, width, kinds)

    def __len__(self) -> int:
        return len(self.file_of)

    @property
    def sizes(self) -> Ints:
        """A number for each row that is equal where pictures have one size."""
        return self.height << 32 | self.width

    @property
    def digest(self) -> str:
        """Of which rows these are: another for a run that has grown."""
        said = hashlib.sha256()
        for file in self.files:
            said.update(f"{file.path} {file.count} ".encode())
            said.update(b"" if file.image_ids is None else "".join(file.image_ids.to_pylist()).encode())
        return said.hexdigest()[:32]

    def read(self, number: int) -> list[dict[str, Any]]:
        """All rows of a file that are wanted: `image`, encoded, and columns without nulls. Raises Infrastructure."""
        file = self.files[number]
        names = [*dict.fromkeys(["image", *ALWAYS, *self.columns])]
        try:
            with found_damaged(), self.store.open_file(file.path) as opened:
                table = open_parquet(opened).read(names, use_threads=False)
        except DAMAGED as error:
            raise Infrastructure(f"{self.store}/{file.path}: cannot be read ({error}). Run batchgen doctor.") from error
        if file.image_ids is not None:
            table = table.filter(pc.is_in(table["image_id"], value_set=file.image_ids))
        own = slice(file.first, file.first + file.count)
        sides = (np.asarray(table["image_height"]), np.asarray(table["image_width"]))
        if not (np.array_equal(sides[0], self.height[own]) and np.array_equal(sides[1], self.width[own])):
            raise Infrastructure(f"{self.store}/{file.path}: is not as the metadata says. Run batchgen doctor.")
        pictures = table["image"].combine_chunks().field("bytes")
        filled = {name: _filled(table[name], kind) for name, kind in self.columns.items()}
        rows: list[dict[str, Any]] = pa.table({"image": pictures, **filled}).to_pylist()
        return rows


def _refuse(
    store: Store,
    columns: Sequence[str] | None,
    types: dict[str, pa.DataType],
    wanted: pa.Array | None,
    found: list[pa.Table],
    rows: int,
) -> None:
    known = [*types, "image"]
    problems = [
        Problem(
            f"there is no column {name!r} in data/.{nearest(name, known)} There are: {', '.join(types)}.", "columns"
        )
        for name in columns or []
        if name not in known
    ]
    if wanted is not None and rows < len(wanted):
        there = pa.chunked_array([chunk for table in found for chunk in table["image_id"].chunks], pa.string())
        lost = wanted.filter(pc.invert(pc.is_in(wanted, value_set=there))).to_pylist()
        shown = ", ".join(map(repr, lost[:SHOWN])) + (", ..." if len(lost) > SHOWN else "")
        problems.append(Problem(f"{len(lost)} of them have no picture in {store} ({shown}).", "image_ids"))
    if not rows and not problems:
        problems.append(Problem(f"{store}: has no picture to train on."))
    if problems:
        raise Refused(problems)


def _kind(kind: pa.DataType, has_nulls: bool) -> pa.DataType:
    """What a column is read as: a type that torch's default_collate takes, and that has a value for null."""
    if pa.types.is_decimal(kind):
        return pa.float64()
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return pa.string()
    return pa.float64() if has_nulls else kind


def _filled(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_boolean(values.type) and pa.types.is_floating(kind):
        values = values.cast(pa.uint8())
    values = values.cast(kind)
    return values.fill_null("" if pa.types.is_string(kind) else float("nan")) if values.null_count else values
