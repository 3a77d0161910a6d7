"""The samples of a part, with their pictures, captions and rows, read from the data files of a run.

A data file is read once, ahead of whoever writes, and only a few are held at a time. Knows the run and what may leave
the house; no layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.export.captions import Caption
from batchgen.export.embedding import embedded, fits
from batchgen.export.options import Form
from batchgen.export.part import Part
from batchgen.export.public import public
from batchgen.run import images
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.layout import data_path
from batchgen.run.parquet import open_parquet
from batchgen.run.reading import in_order
from batchgen.run.shard_file import Footer
from batchgen.storage.store import Store

GROUPS_AHEAD = 2  # each some hundred megabytes at most, or eight times that where sizes are mixed
TOO_LONG = "some prompts are longer than a JPEG can hold, and stand beside the picture only"
RENDERED = dict.fromkeys(field.name for field in schema.RENDER_FIELDS)  # data files of the first versions lack some
CONSTANT = {field.name: field.type for field in schema.CONSTANT_FIELDS}


@dataclass(frozen=True, slots=True)
class Sample:
    """own: its row as it may leave the house, without what it shares with others of its data file: that is `shared`.

    data: the picture, ready to be written; empty where only rows are read.
    """

    image_id: str
    data: bytes
    caption: str
    own: dict[str, Any]
    shared: Shared

    @property
    def row(self) -> dict[str, Any]:
        return self.own | self.shared.public

    def json(self, first: Mapping[str, Any]) -> str:
        """The row as JSON, after and without what `first` says."""
        own = {**first, **{name: value for name, value in self.own.items() if name not in first}}
        return json.dumps(own, ensure_ascii=False)[:-1] + self.shared.json


@dataclass(frozen=True, slots=True)
class Shared:
    """Columns that are the same in a whole data file. public: of them what may leave. json: the rest of an object."""

    values: dict[str, Any]
    public: dict[str, Any]
    json: str

    @classmethod
    def of(cls, footer: Footer) -> Shared:
        said = {name: footer.constants.get(name) for name in CONSTANT}
        said["versions"] = json.dumps(said["versions"] or {}, sort_keys=True)
        outside = public(said)
        text = json.dumps(outside, ensure_ascii=False)[1:]
        return cls(said, outside, f", {text}" if outside else text)


@dataclass(frozen=True, slots=True)
class Block:
    """Samples that were read together. table: their rows as they may leave the house, typed.

    note: what is not as somebody may expect, for people.
    """

    samples: list[Sample]
    table: pa.Table
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads parts of one run. pictures: whether to; without them it reads rows only."""

    store: Store
    caption: Caption
    form: Form
    pictures: bool = True

    def blocks(self, part: Part) -> Iterator[Block]:
        """In the order of the part."""
        return in_order(part.read_together(), self._block, readers=1, window=GROUPS_AHEAD)

    def _block(self, group: tuple[list[str], list[int]]) -> Block:
        """A table of one file's pictures is Arrow's; of several it would be more than Arrow's offsets can say."""
        image_ids, shards = group
        tables, shared, pictures = list[pa.Table](), dict[int, Shared](), dict[str, bytes]()
        for shard in sorted(set(shards)):
            table, shared[shard] = self._read(shard)
            if self.pictures:
                pictures |= _pictures(table, set(image_ids))
                table = table.drop_columns(["image"])
            tables.append(table)
        table = _in_order(pa.concat_tables(tables, promote_options="permissive"), image_ids)
        if table is None:
            paths = ", ".join(map(data_path, sorted(shared)))
            raise Infrastructure(f"{self.store}: not all rows of the plan are in {paths}. Run batchgen doctor.")
        return self._finished(table, pictures, [shared[shard] for shard in shards])

    def _read(self, shard: int) -> tuple[pa.Table, Shared]:
        path = data_path(shard)
        try:
            with found_damaged(), self.store.open_file(path) as opened:
                file = open_parquet(opened)
                there = file.schema_arrow
                columns = None if self.pictures else [name for name in there.names if name != "image"]
                return file.read(columns, use_threads=False), Shared.of(Footer.from_metadata(there.metadata))
        except FileNotFoundError as error:
            raise Infrastructure(f"{self.store}/{path}: is missing. Run the render command to render it.") from error
        except DAMAGED as error:
            raise Infrastructure(f"{self.store}/{path}: cannot be read ({error}). Run batchgen doctor.") from error

    def _finished(self, table: pa.Table, pictures: Mapping[str, bytes], shared: Sequence[Shared]) -> Block:
        if self.form.encode and pictures:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                encoded = pool.map(self._encoded, pictures, pictures.values())
                pictures = dict(zip(pictures, encoded, strict=True))
        samples, all_fit = list[Sample](), True
        for values, same in zip(table.to_pylist(), shared, strict=True):
            whole = {**RENDERED, **values, **same.values}
            data = pictures.get(values["image_id"], b"")
            if data:
                data = self._written(data, whole)
                all_fit = all_fit and (self.form.bare or fits(self.form.image_format, whole))
            samples.append(Sample(values["image_id"], data, self.caption(whole), public(values), same))
        return Block(samples, _typed(table, samples), None if all_fit else TOO_LONG)

    def _encoded(self, image_id: str, data: bytes) -> bytes:
        try:
            return images.encode(images.decode(data), self.form.image_format, self.form.quality)
        except ValueError as error:
            raise _unreadable(self.store, image_id, error) from error

    def _written(self, data: bytes, values: dict[str, Any]) -> bytes:
        if self.form.bare:
            return data
        try:
            return embedded(data, self.form.image_format, values)
        except ValueError as error:
            raise _unreadable(self.store, values["image_id"], error) from error


def _unreadable(store: Store, image_id: str, error: ValueError) -> Infrastructure:
    return Infrastructure(f"{store}: the picture of image {image_id} cannot be read ({error}). Run batchgen doctor.")


def _pictures(table: pa.Table, wanted: set[str]) -> dict[str, bytes]:
    """image_id → the stored bytes, of those that are wanted."""
    stored = (data for chunk in table["image"].chunks for data in chunk.field("bytes").to_pylist())
    ids = table["image_id"].to_pylist()
    return {image_id: data for image_id, data in zip(ids, stored, strict=True) if image_id in wanted}


def _in_order(table: pa.Table, image_ids: Sequence[str]) -> pa.Table | None:
    """These rows in this order; None where one is not there."""
    there = table["image_id"].combine_chunks()
    wanted = pa.array(image_ids, there.type)
    if there.equals(wanted):
        return table
    at = pc.index_in(wanted, there)
    return None if at.null_count else table.take(at)


def _typed(plain: pa.Table, samples: Sequence[Sample]) -> pa.Table:
    """The columns of their rows, with the types that they have in metadata/."""
    first = samples[0]
    table = plain.select([name for name in plain.column_names if name in first.own]).replace_schema_metadata()
    for name in first.shared.public:
        values = pa.array([sample.shared.public[name] for sample in samples], CONSTANT[name])
        table = table.append_column(pa.field(name, CONSTANT[name]), values)
    return table
