"""The layout `mds` of mosaicml-streaming: shards of samples with their offsets in front, and `index.json`.

A shard is: how many samples, their offsets (both uint32), the shard's own description as JSON, the samples; a sample is
the sizes of its three columns and their bytes. That description also holds the digest of its part, which readers pass
over: it is the receipt. Source: streaming/base/format/mds/writer.py of mosaicml-streaming 0.13.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.errors import Refused
from batchgen.export.layout import Place, Tally
from batchgen.export.part import Part
from batchgen.export.samples import Block
from batchgen.storage.drafts import Draft

INDEX = "index.json"
PART = 1_000  # images: 10,000 of a megapixel would be more than an offset can say
LARGEST = 2**32 - 1  # bytes of a shard
ENCODINGS = {"png": "png", "jpg": "jpeg", "webp": "bytes"}  # theirs, by the extension of a picture
COLUMNS = ("caption", "image", "json")  # in the order of their names, as their writer has them


@dataclass(frozen=True, slots=True)
class Mds:
    extension: str
    part_size: int = PART
    name: str = "mds"
    is_sharded: bool = True
    beside: Sequence[str] = (INDEX,)

    def paths(self, part: Part) -> Iterator[str]:
        yield _shard(part)

    def is_written(self, place: Place, part: Part) -> bool:
        path = _shard(part)
        if path not in place.sizes:
            return False
        with place.store.open_file(path, place.sizes[path]) as file:
            try:
                (count,) = struct.unpack("<I", file.read(4))
                offsets = struct.unpack(f"<{count + 1}I", file.read(4 * (count + 1)))
                said = json.loads(file.read(offsets[0] - file.tell()))["batchgen"]
            except (struct.error, ValueError, LookupError, TypeError) as error:
                raise Refused(f"{place.store}/{path}: is of another program. Export to a new folder.") from error
        if said != place.digest(part):
            raise Refused(
                f"{place.store}/{path}: holds another export, of other images or options. Delete it and {INDEX}, or "
                "export to a new folder."
            )
        if offsets[-1] != place.sizes[path]:
            raise Refused(f"{place.store}/{path}: is not as it was written. Delete it, and run this again.")
        return True

    def write(self, place: Place, part: Part, blocks: Iterator[Block]) -> Tally:
        tally, count = Tally(images=len(part.image_ids)), len(part.image_ids)
        said = json.dumps(self._said() | {"batchgen": place.digest(part)}, sort_keys=True).encode()
        end = 4 + 4 * (count + 1) + len(said)
        offsets = [end]
        with Draft(place.store) as draft:
            draft.file.write(bytes(end))
            for block in blocks:
                for sample in block.samples:
                    columns = (sample.caption.encode(), sample.data, sample.json({}).encode())
                    draft.file.write(struct.pack("<3I", *map(len, columns)))
                    draft.file.writelines(columns)
                    end += 12 + sum(map(len, columns))
                    offsets.append(end)
                    if end > LARGEST:
                        raise Refused(
                            f"{place.store}/{_shard(part)}: would be more than 4 GiB, which this layout cannot say. "
                            f"Export with a smaller --shard-size than {self.part_size}."
                        )
            draft.file.seek(0)
            draft.file.write(struct.pack(f"<I{count + 1}I", count, *offsets) + said)
            tally.count(place.finish(draft, _shard(part)))
        return tally

    def finish(self, place: Place, parts: Sequence[Part], blocks: Iterator[tuple[Part, Block]]) -> Tally:
        shards = [
            self._said() | {
                "raw_data": {"basename": _shard(part), "bytes": place.store.size(_shard(part)), "hashes": {}},
                "samples": len(part.image_ids),
                "zip_data": None,
            }
            for part in parts
        ]  # fmt: skip
        tally = Tally()
        index = {"shards": shards, "version": 2}
        tally.count(place.create(INDEX, json.dumps(index, sort_keys=True).encode()))
        return tally

    def _said(self) -> dict[str, Any]:
        """What a shard says of itself, in it and in the index."""
        encodings = {"caption": "str", "image": ENCODINGS[self.extension], "json": "json"}
        return {
            "version": 2, "format": "mds", "compression": None, "hashes": [], "size_limit": None,
            "column_names": list(COLUMNS), "column_encodings": [encodings[name] for name in COLUMNS],
            "column_sizes": [None] * len(COLUMNS),
        }  # fmt: skip


def _shard(part: Part) -> str:
    return f"shard.{part.number:05}.mds"
