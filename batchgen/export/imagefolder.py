"""The layout `imagefolder` of the datasets library: pictures in folders, and `metadata.jsonl` with a line for each.

That library takes the types of columns from the first ten megabytes of lines. So text that is not there is empty, and
not null: a column that has none for long would be of no type, and its first text an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.export.layout import Place, Tally
from batchgen.export.loose_files import MOST, folder_of, pictures, write_files
from batchgen.export.part import Part
from batchgen.export.samples import Block
from batchgen.storage.drafts import Draft

LINES = "metadata.jsonl"
FIELDS = ("file_name", "text")


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """part_size: so that a folder has fewer than 10,000 files."""

    extension: str
    name: str = "imagefolder"
    part_size: int = MOST
    is_sharded: bool = False
    beside: Sequence[str] = (LINES,)

    def paths(self, part: Part) -> Iterator[str]:
        yield from (f"{folder_of(part)}/{image_id}.{self.extension}" for image_id in part.image_ids)

    def is_written(self, place: Place, part: Part) -> bool:
        return False

    def write(self, place: Place, part: Part, blocks: Iterator[Block]) -> Tally:
        return write_files(place, part, pictures(blocks, folder_of(part), self.extension, captions=None))

    def finish(self, place: Place, parts: Sequence[Part], blocks: Iterator[tuple[Part, Block]]) -> Tally:
        tally = Tally()
        with Draft(place.store) as draft:
            for part, block in blocks:
                tally.note_clashes(FIELDS, block.table.column_names, "imagefolder")
                for line in self._lines(part, block):
                    draft.file.write(line)
            tally.count(place.finish(draft, LINES))
        return tally

    def _lines(self, part: Part, block: Block) -> Iterator[bytes]:
        texts = {field.name: "" for field in block.table.schema if pa.types.is_string(field.type)}
        for sample in block.samples:
            path = f"{folder_of(part)}/{sample.image_id}.{self.extension}"
            rest: dict[str, Any] = {
                name: texts.get(name) if value is None else value for name, value in sample.row.items()
            }
            line = {"file_name": path, "text": sample.caption}
            line |= {name: value for name, value in rest.items() if name not in FIELDS}
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"
