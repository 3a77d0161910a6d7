"""The metadata of a run in pieces, of which some columns can be read without the others.

Of a finished run they are the row groups of metadata/; of one that is not, rows of the shards that are committed, which
are held in memory. Knows files, and nothing of pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import Infrastructure
from batchgen.finalize.metadata import metadata
from batchgen.finalize.proof import proven_books
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.directory import Run
from batchgen.run.layout import SUCCESS
from batchgen.run.reading import in_order
from batchgen.schema import CONSTANT_FIELDS

# Long texts that are the same in most rows: as dictionaries they take nothing.
REPEATED = tuple(field.name for field in CONSTANT_FIELDS if field.type == pa.string())


@dataclass(frozen=True)
class InMemory:
    """Rows in memory."""

    table: pa.Table

    @property
    def rows(self) -> int:
        return len(self.table)

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema

    def read(self, names: Sequence[str] | None = None) -> pa.Table:
        """All columns, or some of them that it has."""
        return self.table if names is None else self.table.select(names)


@dataclass(frozen=True)
class Stored:
    """A row group of a file of metadata/."""

    run: Run
    path: str
    group: int
    footer: pq.FileMetaData
    schema: pa.Schema

    @property
    def rows(self) -> int:
        rows: int = self.footer.row_group(self.group).num_rows
        return rows

    def read(self, names: Sequence[str] | None = None) -> pa.Table:
        """All columns, or some of them that it has. Raises Infrastructure where they cannot be read."""
        try:
            with found_damaged(), self.run.store.open_file(self.path) as opened:
                file = pq.ParquetFile(
                    opened,
                    metadata=self.footer,
                    read_dictionary=REPEATED,
                    page_checksum_verification=True,
                    pre_buffer=True,
                )
                return file.read_row_group(self.group, names)
        except DAMAGED as error:
            raise Infrastructure(
                f"{self.run.store}/{self.path}: cannot be read ({error}). Run batchgen doctor."
            ) from error


Piece = InMemory | Stored


def pieces_of(run: Run) -> list[Piece]:
    """In the order of the plan; none of them is empty."""
    said = proven_books(run)
    if said is None:
        sizes = run.stored()
        return [InMemory(table) for table in metadata(run, set(sizes), sizes) if len(table)]
    parts = in_order(said.metadata, lambda part: list(_groups(run, part.path)))
    return [piece for pieces in parts for piece in pieces if piece.rows]


def _groups(run: Run, path: str) -> Iterator[Stored]:
    with run.store.open_file(path) as opened:
        footer = pq.read_metadata(opened)
    schema = footer.schema.to_arrow_schema()
    for group in range(footer.num_row_groups):
        yield Stored(run, path, group, footer, schema)


def state_of(run: Run) -> str:
    """Another one as soon as there are other rows: of a finished run its _SUCCESS, or else what lies in data/."""
    try:
        said = run.store.read(SUCCESS)
    except FileNotFoundError:
        said = repr(sorted(run.stored().items())).encode()
    return hashlib.sha256(said).hexdigest()
