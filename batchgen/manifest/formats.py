"""What the readers of manifest files share: sources, lines, what looking through a file finds, and where a row stands.

Data only: reads nothing, and knows no column's meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from batchgen.errors import Problem, Refused
from batchgen.manifest.columns import FileColumns
from batchgen.storage.store import Store

SOURCE_ROWS = 50_000  # about half a minute of planning, and of what is lost when a planner dies
BLOCK = 8 * 2**20  # bytes of one read: one request to a store

# What to do with a table that Excel or another program of Windows wrote.
AS_UTF8 = "save the file as UTF-8 (in Excel as 'CSV UTF-8', elsewhere by iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW)"

Format = Literal["parquet", "jsonl", "csv", "tsv", "txt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The part of a manifest that one task reads: row groups of a Parquet file, or a byte range of a file of lines.

    name: what people are told the file is called. version: a digest, to notice that the file was changed since.
    first_row: how many rows (Parquet) or lines of the file belong to the sources before it.
    groups: of Parquet. skip: how many rows of the first of them belong to the sources before it.
    start, end: where its bytes are, counted after decompression. header: names of the columns in CSV and TSV.
    delimiter: what stands between their values.
    own_ids: every row of the manifest must have an id.
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
    delimiter: str = ""
    own_ids: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a file of lines. number: of its first line, from 1.

    record: its values by column. None where the row cannot be read: then error says why, and text is what stands there.
    """

    number: int
    text: str
    record: dict[str, Any] | None
    code: str = ""
    error: str = ""

    @classmethod
    def not_unicode(cls, number: int, raw: bytes, error: UnicodeDecodeError) -> Self:
        text = raw.strip().decode("utf-8", "backslashreplace")
        why = f"the line is not UTF-8 ({error.reason} at byte {error.start + 1}): {AS_UTF8}"
        return cls(number, text, None, "BAD_UTF8", why)


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one row, or of a blank line, and how many lines of the file they are. line: None where blank."""

    raw: bytes
    lines: int
    line: Line | None


@dataclass(frozen=True, slots=True)
class Inspected:
    """What looking through one file finds. digest: SHA-256 of its bytes. has_ids: at least one row has an id."""

    columns: FileColumns
    sources: list[Source]
    digest: bytes
    has_ids: bool


def refuse_doubled(names: Sequence[str], file: str) -> None:
    """Raises Refused where two columns of a file have one name."""
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubled:
        raise Refused(Problem(f"the column {', '.join(doubled)} stands twice: give each a name of its own.", file))


def changed(source: Source) -> Refused:
    """What to raise where a file is no longer the one that was looked through."""
    message = "the file changed while it was being planned. Run the same command again when nobody writes to it."
    return Refused(Problem(message, source.name))


def place(source: Source, number: int) -> str:
    """Where a row stands, for people: 'prompts.parquet, row 17', 'prompts.jsonl, line 17'."""
    return f"{source.name}, {'row' if source.format == 'parquet' else 'line'} {number}"
