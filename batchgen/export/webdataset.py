"""The layout `webdataset`: tars as img2dataset writes them, each with a Parquet and a JSON of counts beside it.

In a tar there are `000010003.png`, `.txt` and `.json` of each image; its name is the number of its part and its place
in it. The JSON of counts is written last: it is the receipt of its part. Source: img2dataset's writer.py, logger.py.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import Refused
from batchgen.export.layout import Place, Tally
from batchgen.export.options import digits
from batchgen.export.part import Part
from batchgen.export.samples import Block, Sample
from batchgen.export.tar import Tar
from batchgen.storage.drafts import Draft

PART = 10_000  # images, as img2dataset has them
SHARD_DIGITS = 5
# What img2dataset says of each image. Its size is that of the picture, and `original` of nothing else: none is resized.
FIELDS = {
    "key": pa.string(), "caption": pa.string(), "status": pa.string(), "error_message": pa.string(),
    "width": pa.int32(), "height": pa.int32(), "original_width": pa.int32(), "original_height": pa.int32(),
}  # fmt: skip
OURS = {"width", "height"}  # columns of every run, which are what was asked for: no column of a user


@dataclass(frozen=True, slots=True)
class Webdataset:
    """part_size: decides how long the names are in a tar."""

    extension: str
    part_size: int = PART
    name: str = "webdataset"
    is_sharded: bool = True

    @property
    def beside(self) -> Sequence[str]:
        return ()

    def paths(self, part: Part) -> Iterator[str]:
        yield from (f"{_shard(part)}{kind}" for kind in (".tar", ".parquet", "_stats.json"))

    def is_written(self, place: Place, part: Part) -> bool:
        shard = _shard(part)
        if f"{shard}_stats.json" not in place.sizes:
            return False
        try:
            said = json.loads(place.store.read(f"{shard}_stats.json"))["batchgen"]
            digest, sizes = said["digest"], {f"{shard}.{kind}": said[kind] for kind in ("tar", "parquet")}
        except (ValueError, LookupError, TypeError) as error:
            raise Refused(
                f"{place.store}/{shard}_stats.json: is of another program. Export to a new folder."
            ) from error
        if digest != place.digest(part):
            raise Refused(
                f"{place.store}/{shard}.tar: holds another export, of other images or options. Delete "
                f"{shard}.tar, {shard}.parquet and {shard}_stats.json, or export to a new folder."
            )
        if other := [path for path, size in sizes.items() if place.sizes.get(path, size) != size]:
            raise Refused(f"{place.store}/{other[0]}: is not as it was written. Delete it, and run this again.")
        return sizes.keys() <= place.sizes.keys()

    def write(self, place: Place, part: Part, blocks: Iterator[Block]) -> Tally:
        shard, tally, tables = _shard(part), Tally(images=len(part.image_ids)), list[pa.Table]()
        keys = iter(self._keys(part))
        with Draft(place.store) as draft:
            tar = Tar(draft.file)
            for block in blocks:
                tables.append(self._write(tar, block, keys, tally))
            tar.close()
            size = draft.file.tell()
            tally.count(place.finish(draft, f"{shard}.tar"))
        data = _parquet(pa.concat_tables(tables, promote_options="permissive"))
        tally.count(place.create(f"{shard}.parquet", data))
        receipt = _stats(len(part.image_ids)) | {
            "batchgen": {"digest": place.digest(part), "tar": size, "parquet": len(data)}
        }
        tally.count(place.create(f"{shard}_stats.json", json.dumps(receipt, indent=4).encode()))
        return tally

    def finish(self, place: Place, parts: Sequence[Part], blocks: Iterator[tuple[Part, Block]]) -> Tally:
        return Tally()

    def _keys(self, part: Part) -> Iterator[str]:
        behind = digits(self.part_size)
        for at in range(len(part.image_ids)):
            yield f"{part.number * 10**behind + at:0{SHARD_DIGITS + behind}}"

    def _write(self, tar: Tar, block: Block, keys: Iterator[str], tally: Tally) -> pa.Table:
        """Members of a block; its rows."""
        said = []
        for sample in block.samples:
            first = _fields(next(keys), sample)
            key = first["key"]
            tar.add(f"{key}.{self.extension}", sample.data)
            tar.add(f"{key}.txt", sample.caption.encode())
            tar.add(f"{key}.json", sample.json(first).encode())
            said.append(first)
        theirs = [name for name in block.table.column_names if name not in OURS]
        tally.note_clashes(FIELDS, theirs, "webdataset")
        table = block.table.drop_columns([name for name in FIELDS if name in block.table.column_names])
        columns = pa.Table.from_pylist(said, schema=pa.schema(FIELDS.items()))
        for at, name in enumerate(columns.column_names):
            table = table.add_column(at, columns.field(name), columns[name])
        return table


def _fields(key: str, sample: Sample) -> dict[str, Any]:
    height, width = sample.own["image_height"], sample.own["image_width"]
    return {
        "key": key, "caption": sample.caption, "status": "success", "error_message": None,
        "width": width, "height": height, "original_width": width, "original_height": height,
    }  # fmt: skip


def _stats(images: int) -> dict[str, Any]:
    """Keys of img2dataset. An export takes no time: the same export is the same bytes."""
    return {
        "count": images, "successes": images, "failed_to_download": 0, "failed_to_resize": 0, "duration": 0,
        "status_dict": {"success": images},
    }  # fmt: skip


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return sink.getvalue()


def _shard(part: Part) -> str:
    return f"{part.number:0{SHARD_DIGITS}}"
