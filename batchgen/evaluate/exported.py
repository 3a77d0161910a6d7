"""The record of an export: which file of a folder shows which image. Lies below the run, in OUT/exports/.

The folder itself holds what its reader reads and nothing else, so all that is known of it stands here. Knows no image
and no target.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from batchgen.errors import Refused
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.parquet import read_parquet
from batchgen.run.plans import digest, to_parquet
from batchgen.storage.store import Store

EXPORTS = "exports"
SCHEMA = pa.schema([("path", pa.string()), ("tile", pa.int32()), ("image_id", pa.string())])


@dataclass(frozen=True, slots=True)
class Shows:
    """A tile of a file, and the image that it shows. tile: 0 where the picture is one image."""

    path: str
    tile: int
    image_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """fingerprint: of the run's newest plan. selection: digest of the chosen image_ids, None where all were.

    roots: the folders that a reader is pointed at, one for each cell; "" is the whole. files: how many there are in
    all. shows: those that show images; none for training, where the files say it. options: of an export for training.
    """

    target: str
    dest: str
    fingerprint: str
    selection: str | None
    roots: tuple[str, ...]
    files: int
    shows: tuple[Shows, ...]
    options: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """By its content: the same export again is the same record."""
        return f"{self.target}-{digest(json.dumps(self.said(), sort_keys=True).encode())[:16]}"

    def said(self) -> dict[str, Any]:
        """As it is stored; options only where there are any, which records of benchmarks never had."""
        return {name: value for name, value in asdict(self).items() if name != "options" or value is not None}


def write_record(store: Store, record: Record) -> str:
    """Its path below the run. The map is there before the file that says so."""
    rows = [asdict(one) for one in record.shows]
    store.create(f"{EXPORTS}/{record.name}.parquet", to_parquet(pa.Table.from_pylist(rows, schema=SCHEMA)))
    said = {name: value for name, value in record.said().items() if name != "shows"}
    path = f"{EXPORTS}/{record.name}.json"
    store.create(path, json.dumps(said, indent=1, sort_keys=True).encode())
    return path


def read_records(store: Store, target: str | None = None) -> list[Record]:
    """All records of a run, or those of one target. Raises Refused where one is damaged."""
    found = []
    for entry in store.list(EXPORTS):
        if entry.path.endswith(".json"):
            try:
                found.append(_read(store, entry.path))
            except DAMAGED as error:
                raise Refused(
                    f"{store}/{entry.path}: is damaged ({error}). Delete it and its .parquet, and export again."
                ) from error
    return [record for record in found if target in (None, record.target)]


def _read(store: Store, path: str) -> Record:
    with found_damaged():
        said = json.loads(store.read(path))
        rows = read_parquet(store.read(path.removesuffix(".json") + ".parquet")).to_pylist()
        known = {one.name: said[one.name] for one in fields(Record) if one.name in said}
        known["roots"] = tuple(known["roots"])
        return Record(**known, shows=tuple(Shows(**row) for row in rows))
