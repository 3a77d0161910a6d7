"""CSV and TSV: a header, then one record a line, or over several lines inside quotes. Every value is text.

In TSV a quote that does not enclose a whole field is a letter like any other: published tables are written by hand.
In CSV it is a mistake of that row. What a file called CSV has between its values, its header shows: a spreadsheet of a
language with decimal commas writes semicolons. Knows no files and no meaning.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchgen.errors import Problem, Refused
from batchgen.manifest.formats import AS_UTF8, Line, Piece, Source, refuse_doubled

USUAL = {"csv": ",", "tsv": "\t"}
SAID = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([,;\t|])"?\s*$')  # Excel's own first line
MOST_LINES = 10_000  # of one record: a quote that is never closed must not swallow the file
csv.field_size_limit(2**31 - 1)  # manifest.checks says how long a value may be


@dataclass(frozen=True, slots=True)
class Opening:
    """How a file begins. lines: what stands before its first record."""

    lines: list[bytes]
    names: tuple[str, ...]
    delimiter: str


def opening(lines: Iterator[bytes], source: Source) -> Opening:
    """A column without a name is called as pandas calls it. Raises Refused where the header cannot be read."""
    taken = [*_take(lines, 1)]
    said = SAID.match(taken[0]) if taken and source.format == "csv" else None
    if said:
        taken += _take(lines, 1)
    raw = taken[-1] if taken else b""
    try:
        text = _text(raw)
        delimiter = said[1].decode() if said else _between(text, source.format)
        names = _cells(text, delimiter)
    except UnicodeDecodeError as error:
        raise Refused(Problem(f"the header is not UTF-8 ({error.reason}): {AS_UTF8}.", source.name)) from error
    except csv.Error as error:
        raise Refused(Problem(f"the header cannot be read ({error}). Write names of columns.", source.name)) from error
    names = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(names)]
    refuse_doubled(names, source.name)
    return Opening(taken, tuple(names), delimiter)


def _between(header: str, format: str) -> str:
    """What most columns are divided by; inside quotes it is a letter."""
    if format == "tsv":
        return "\t"
    bare = re.sub('"[^"]*"', "", header)
    return max(",;\t|", key=bare.count)  # of equal ones the first


def pieces(lines: Iterator[bytes], names: Sequence[str], delimiter: str, before: int) -> Iterator[Piece]:
    """Records and blank lines. before: lines of the file in front of them."""
    waiting = list[bytes]()
    while waiting or (waiting := [*_take(lines, 1)]):
        used, line = _record(waiting, lines, names, delimiter, before)
        yield Piece(b"".join(waiting[:used]), used, line)
        before += used
        waiting = waiting[used:]


def _record(
    waiting: list[bytes], lines: Iterator[bytes], names: Sequence[str], delimiter: str, before: int
) -> tuple[int, Line | None]:
    """The record that begins with waiting[0], and how many lines it takes; reads more lines where a quote is open."""
    if not waiting[0].strip():
        return 1, None
    used, text = 1, ""
    try:
        text = _text(waiting[0])
        while True:
            try:
                return used, _line(_cells(text, delimiter), text, names, before)
            except csv.Error as error:
                open_quote = "unexpected end of data" in str(error)
                if open_quote and used == len(waiting) < MOST_LINES:
                    waiting += _take(lines, 1)
                if not open_quote or used == len(waiting):
                    return 1, _unquoted(_text(waiting[0]), error, names, delimiter, before)
                text += _text(waiting[used])
                used += 1
    except UnicodeDecodeError as error:
        return 1, Line.not_unicode(before + 1, waiting[0], error)


def _unquoted(text: str, error: csv.Error, names: Sequence[str], delimiter: str, before: int) -> Line:
    """A line whose quotes enclose no field."""
    if delimiter == "\t":
        return _line(text.rstrip("\r\n").split(delimiter), text, names, before)
    why = "a quote is not closed" if "end of data" in str(error) else str(error).replace("'", "")
    return Line(before + 1, text, None, "BAD_CSV", f"the line is not CSV ({why}): double the quotes inside quotes")


def _line(cells: Sequence[str], text: str, names: Sequence[str], before: int) -> Line:
    if len(cells) != len(names):
        message = f"the row has {len(cells)} cells, the header has {len(names)}: quote what holds a delimiter"
        return Line(before + 1, text, None, "BAD_CSV", message)
    return Line(before + 1, "", {name: cell or None for name, cell in zip(names, cells, strict=True)})


def _cells(text: str, delimiter: str) -> list[str]:
    """One record. Raises csv.Error unless text is exactly that."""
    (cells,) = csv.reader([text], delimiter=delimiter, strict=True)
    return cells


def _text(raw: bytes) -> str:
    return raw.decode("utf-8-sig")


def _take(lines: Iterator[bytes], count: int) -> Iterator[bytes]:
    for _, line in zip(range(count), lines, strict=False):
        yield line
