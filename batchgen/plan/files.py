"""Writes the files of one plan: shards in row groups, their index, the skipped rows. Nothing counts before publish().

Knows the run directory's names and Parquet; not how shards come about. Every planner writes below a uuid of its own,
so two planners never meet; what no plan JSON names is an orphan.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen import schema
from batchgen.plan.sharding import PlannedShard
from batchgen.run import layout
from batchgen.run.directory import publish
from batchgen.run.index import ShardRef, to_table
from batchgen.run.plans import Plan, PlanFile, digest, to_parquet
from batchgen.storage.store import Store

SHARDS_PER_FILE = 256  # a reader of one row group parses the footer of all
BYTES_PER_FILE = 64_000_000
# A row group costs its 60 column chunks, however few rows it has: reading 20,000 of one row each took 10.7 s of a core,
# and 0.15 s in groups of 256. Who wants one shard reads the others of its group too: less than that shard's pictures.
ROWS_PER_GROUP = 256
BYTES_PER_GROUP = 1_000_000


class PlanFiles:
    """`with PlanFiles(...) as files`: write() shards, finish(), publish() a plan; without that all is taken back."""

    def __init__(self, store: Store, extras: Sequence[pa.Field]) -> None:
        self.store = store
        self.plan = uuid.uuid4().hex
        self.files: list[PlanFile] = []
        self._schema = schema.plan_schema(extras)
        self.skipped: list[PlanFile] = []
        self._skipped: list[pa.Table] = []
        self.replaced: PlanFile | None = None
        self._index: list[ShardRef] = []  # of the current file
        self._indices: list[pa.Table] = [to_table([])]  # of those before it: as objects they take twenty times as much
        self._written: list[str] = []
        self._kept = False
        self._start_file()

    def write(self, shard: PlannedShard) -> None:
        """Append one shard to the current file; small ones share a row group."""
        self._index.append(shard.ref(self._name, self._groups))
        self._group.append(shard.rows)
        self._rows += len(shard.rows)
        self._group_rows += len(shard.rows)
        self._group_bytes += shard.rows.nbytes
        if self._group_rows >= ROWS_PER_GROUP or self._group_bytes >= BYTES_PER_GROUP:
            self._end_group()
        if len(self._index) >= SHARDS_PER_FILE or self._sink.tell() >= BYTES_PER_FILE:
            self._end_file()
            self._start_file()

    def skip(self, rows: list[pa.Table]) -> None:
        """Keep rows that will not be rendered, in files of their own."""
        self._skipped += rows
        if sum(table.nbytes for table in self._skipped) >= BYTES_PER_FILE:
            self._end_skipped()

    def replace(self, image_ids: Sequence[str]) -> None:
        """Record, once, which rows of earlier generations this plan replaces."""
        if image_ids:
            names = pa.table({"image_id": pa.array(image_ids, pa.string())})
            self.replaced = self._put("replaced.parquet", to_parquet(names), len(names))

    def finish(self) -> tuple[PlanFile, list[PlanFile]]:
        """Write what is open; returns the index and the files of skipped rows."""
        self._end_file()
        self._end_skipped()
        index = pa.concat_tables(self._indices).combine_chunks()
        return self._put("index.parquet", to_parquet(index), len(index)), self.skipped

    def publish(self, plan: Plan) -> bool:
        """Make it THE plan of its generation. False: another planner was first, and that one's counts."""
        self._kept = True  # from here on it may count, whatever the store answers
        self._kept = publish(self.store, plan).plan == self.plan
        return self._kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """After a refusal, an error, or another planner's success: remove what was written."""
        if self._kept:
            return
        for path in self._written:
            self.store.delete(path)
        self.store.remove_made_folders()

    def _start_file(self) -> None:
        self._name = f"rows-{len(self.files):05}.parquet"
        self._sink = pa.BufferOutputStream()
        self._groups = self._rows = 0
        self._group: list[pa.Table] = []  # what will be the next row group
        self._group_rows = self._group_bytes = 0
        # Row groups are a few hundred rows: dictionaries and statistics of 45 columns would outweigh the rows.
        self._writer = pq.ParquetWriter(
            self._sink, self._schema, compression="zstd", use_dictionary=False, write_statistics=False,
            write_page_checksum=True, store_schema=True,
        )  # fmt: skip

    def _end_group(self) -> None:
        if self._group:
            rows = pa.concat_tables(self._group).combine_chunks()
            self._writer.write_table(rows, row_group_size=len(rows))
            self._groups += 1
            self._group, self._group_rows, self._group_bytes = [], 0, 0

    def _end_file(self) -> None:
        self._end_group()
        self._writer.close()
        if self._groups:
            self.files.append(self._put(self._name, bytes(self._sink.getvalue()), self._rows))
            self._indices.append(to_table(self._index))
            self._index = []

    def _end_skipped(self) -> None:
        if self._skipped:
            rows, self._skipped = pa.concat_tables(self._skipped), []
            self.skipped.append(self._put(f"skipped-{len(self.skipped):05}.parquet", to_parquet(rows), len(rows)))

    def _put(self, name: str, data: bytes, rows: int) -> PlanFile:
        path = f"{layout.plan_directory(self.plan)}/{name}"
        self._written.append(path)
        self.store.replace(path, data)
        return PlanFile(name, digest(data), rows)
