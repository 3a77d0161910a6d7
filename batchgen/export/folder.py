"""The layout `folder`: pictures with their captions beside them in folders, and one Parquet of all rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.export.layout import Place, Tally
from batchgen.export.loose_files import MOST, folder_of, pictures, write_files
from batchgen.export.part import Part
from batchgen.export.samples import Block
from batchgen.storage.drafts import Draft

TABLE = "metadata.parquet"
ROWS_TOGETHER = 10_000  # of a row group
FIELDS = ("file_name", "caption")  # ours, before the columns of the run


@dataclass(frozen=True, slots=True)
class Folder:
    """part_size: so that a folder has fewer than 10,000 files."""

    extension: str
    name: str = "folder"
    part_size: int = MOST // 2
    is_sharded: bool = False
    beside: Sequence[str] = (TABLE,)

    def paths(self, part: Part) -> Iterator[str]:
        for image_id in part.image_ids:
            yield from (f"{folder_of(part)}/{image_id}.{kind}" for kind in (self.extension, "txt"))

    def is_written(self, place: Place, part: Part) -> bool:
        return False

    def write(self, place: Place, part: Part, blocks: Iterator[Block]) -> Tally:
        return write_files(place, part, pictures(blocks, folder_of(part), self.extension, "txt"))

    def finish(self, place: Place, parts: Sequence[Part], blocks: Iterator[tuple[Part, Block]]) -> Tally:
        tally = Tally()
        with Draft(place.store) as draft:
            _write_table(draft.file, (self._rows(part, block, tally) for part, block in blocks))
            tally.count(place.finish(draft, TABLE))
        return tally

    def _rows(self, part: Part, block: Block, tally: Tally) -> pa.Table:
        paths = [f"{folder_of(part)}/{sample.image_id}.{self.extension}" for sample in block.samples]
        columns = dict(zip(FIELDS, (paths, [sample.caption for sample in block.samples]), strict=True))
        tally.note_clashes(FIELDS, block.table.column_names, "the layout folder")
        table = block.table.drop_columns([name for name in FIELDS if name in block.table.column_names])
        for at, (name, values) in enumerate(columns.items()):
            table = table.add_column(at, name, pa.array(values, pa.string()))
        return table


def _write_table(file: BinaryIO, tables: Iterator[pa.Table]) -> None:
    """With the columns of the first: what a later plan of the run calls otherwise is left out, or null."""
    first = next(tables)
    waiting = [first]
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for table in tables:
            whole = pa.concat_tables([first.slice(0, 0), table], promote_options="permissive")
            waiting.append(whole.select(first.schema.names).cast(first.schema))
            if sum(map(len, waiting)) >= ROWS_TOGETHER:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
