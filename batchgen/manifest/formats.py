"""What the readers of manifest files share: sources, lines, what an inspection finds, how large a piece may be.

Data only. `parquet.py` and `lines.py` read; neither knows what a column means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from batchgen.errors import Problem, Refused
from batchgen.manifest.columns import FileColumns
from batchgen.storage.store import Store

SOURCE_ROWS = 50_000  # about half a minute of planning, and of what is lost when a planner dies
BLOCK = 8 * 2**20  # bytes of one read: one request to a store

Format = Literal["parquet", "jsonl", "csv", "tsv", "txt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A piece of a manifest that one task reads: row groups of a Parquet file, or a byte range of a file of lines.

    name: the file as people are told it. first_row: rows (Parquet) or lines of the file in front of it.
    skip: rows of the first row group in front of it. version: what the bytes looked like when they were planned.
    start, end: counted in decompressed bytes. header: the columns of CSV and TSV.
    own_ids: whether every row of the manifest must have an id.
    """

    store: Store
    path: str
    name: str
    format: Format
    first_row: int
    rows: int
    version: str
    groups: tuple[int, ...] = ()
    skip: int = 0
    start: int = 0
    end: int = 0
    header: tuple[str, ...] = ()
    own_ids: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a file of lines. record: its values; None where `error` says why there are none, and text is there.

    number: of its first line, from 1.
    """

    number: int
    text: str
    record: dict[str, Any] | None
    code: str = ""
    error: str = ""

    @classmethod
    def not_unicode(cls, number: int, raw: bytes, error: UnicodeDecodeError) -> Self:
        text = raw.strip().decode("utf-8", "backslashreplace")
        why = f"the line is not UTF-8 ({error.reason} at byte {error.start + 1})"
        return cls(number, text, None, "BAD_UTF8", why)


@dataclass(frozen=True, slots=True)
class Piece:
    """A record with the bytes and the number of lines it is made of. line: None where it is blank."""

    raw: bytes
    lines: int
    line: Line | None


@dataclass(frozen=True, slots=True)
class Inspected:
    """One file, looked through. digest: SHA-256 of its bytes. has_ids: at least one row names itself."""

    columns: FileColumns
    sources: list[Source]
    digest: bytes
    has_ids: bool


def refuse_doubled(names: Sequence[str], file: str) -> None:
    """Raises Refused where two columns of a file have one name."""
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise Refused(Problem(f"the column {', '.join(doubled)} stands twice: give each a name of its own.", file))


def changed(source: Source) -> Refused:
    """What to raise where a file is no longer the one that was looked through."""
    message = "the file changed while it was being planned. Run the same command again when nobody writes to it."
    return Refused(Problem(message, source.name))


def place(source: Source, number: int) -> str:
    """Where a row stands, for people: 'prompts.parquet, row 17', 'prompts.jsonl, line 17'."""
    return f"{source.name}, {'row' if source.format == 'parquet' else 'line'} {number}"
