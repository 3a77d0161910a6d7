"""JSONL files of prompts: every line is looked at for its keys and kinds of values; the file is divided at line ends.

Knows JSON, not meaning: keys are the file's own. A line that is no object is a row all the same, with its complaint.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from batchgen.errors import Problem, Refused
from batchgen.manifest.columns import FileColumns
from batchgen.manifest.formats import BLOCK, SOURCE_ROWS, Inspected, Source, changed
from batchgen.storage import Store

SOURCE_BYTES = 16 * 2**20
MAX_LINE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Line:
    """One line of JSONL. record: the object; None where `error` says why there is none and text is what is there."""

    number: int
    text: str
    record: dict[str, Any] | None
    code: str = ""
    error: str = ""


def inspect_jsonl(store: Store, path: str, name: str, id_column: str) -> Inspected:
    """Read all lines of a JSONL file for their keys and kinds of values, and divide it at line ends."""
    scan = _Scan(Source(store=store, path=path, name=name, format="jsonl", first_row=0, rows=0, version=""))
    with store.open_file(path) as file:
        lines = io.BufferedReader(file, BLOCK) if isinstance(file, io.RawIOBase) else file
        while line := lines.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                where = f"{name}, line {scan.number + 1}"
                raise Refused(Problem("the line is longer than 16 MiB. Write one JSON object per line.", where))
            scan.add(line)
    sources = scan.finish()
    if scan.rows and not scan.objects:
        raise Refused(
            Problem(
                'no line is a JSON object. Write one object per line: {"prompt": "..."}. '
                "A JSON array becomes that with: jq -c '.[]'.",
                name,
            )
        )
    kinds = {key: frozenset(found) for key, found in scan.kinds.items()}
    has_ids = bool(kinds.get(id_column, frozenset()) - {"null"})
    return Inspected(FileColumns(name, kinds=kinds), sources, scan.digest.digest(), has_ids)


class _Scan:
    """The state of one pass over a JSONL file."""

    def __init__(self, whole: Source) -> None:
        self.digest, self.kinds = hashlib.sha256(), dict[str, set[str]]()
        self.number = self.rows = self.objects = 0  # lines, rows and objects so far
        self._whole, self._sources = whole, list[Source]()
        self._offset = self._start = self._first_line = self._first_row = 0
        self._part = hashlib.sha256()

    def add(self, line: bytes) -> None:
        self.digest.update(line)
        self._part.update(line)
        parsed = parse_line(line, self.number)
        self.number += 1
        self._offset += len(line)
        if parsed is not None:
            self.rows += 1
            if parsed.record is not None:
                self.objects += 1
                self._note(parsed.record)
        if self._offset - self._start >= SOURCE_BYTES or self.rows - self._first_row >= SOURCE_ROWS:
            self._close()

    def _note(self, record: dict[str, Any]) -> None:
        for key, value in record.items():
            known = self.kinds.get(key)
            if known is None:
                known = self.kinds[key] = set()
            known.add(kind_of(value))

    def _close(self) -> None:
        if self.rows > self._first_row:
            self._sources.append(
                replace(
                    self._whole,
                    first_row=self._first_line,
                    rows=self.rows - self._first_row,
                    version=self._part.hexdigest(),
                    start=self._start,
                    end=self._offset,
                )
            )
        self._start, self._first_line, self._first_row = self._offset, self.number, self.rows
        self._part = hashlib.sha256()

    def finish(self) -> list[Source]:
        self._close()
        return self._sources


def kind_of(value: Any) -> str:
    """The kind of a JSON value. Integers that a float, or an int64, cannot hold are kinds of their own."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "bool"
    if isinstance(value, int):
        return "int" if -(2**53) <= value <= 2**53 else "long" if -(2**63) <= value < 2**63 else "huge"
    return "str" if isinstance(value, str) else "float" if isinstance(value, float) else "nested"


def read_jsonl(source: Source) -> list[Line]:
    """The rows of a source; blank lines are none."""
    with source.store.open_file(source.path) as file:
        file.seek(source.start)
        data = _read_exactly(file, source.end - source.start)
    if hashlib.sha256(data).hexdigest() != source.version:
        raise changed(source)
    parsed = (parse_line(line, source.first_row + i) for i, line in enumerate(data.split(b"\n")))
    return [line for line in parsed if line is not None]


def parse_line(line: bytes, before: int) -> Line | None:
    """One line with `before` lines in front of it; None where it is blank."""
    if before == 0:
        line = line.removeprefix(b"\xef\xbb\xbf")
    line = line.strip()
    if not line:
        return None
    number = before + 1
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        text = line.decode("utf-8", "backslashreplace")
        return Line(number, text, None, "BAD_UTF8", f"the line is not UTF-8 ({error.reason} at byte {error.start + 1})")
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        return Line(number, text, None, "BAD_JSON", f"the line is not JSON ({reason}): write one object per line")
    if "\\u" in text and isinstance(value, dict) and not all(map(_is_unicode, value)):
        return Line(number, text, None, "BAD_UTF8", "a key of the line holds half a character: write whole ones")
    if not isinstance(value, dict):
        return Line(number, text, None, "BAD_JSON", 'the line is not a JSON object: write {"prompt": "..."}')
    return Line(number, "", value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON says nothing about a key that stands twice; taking the last without a word would hide the first."""
    record = dict(pairs)
    if len(record) < len(pairs):
        seen = set[str]()
        doubled = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {doubled!r} stands twice")
    return record


def _is_unicode(text: str) -> bool:
    """False where JSON escapes made half of a surrogate pair, which no UTF-8 can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    parts = []
    while size and (part := file.read(min(size, BLOCK))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
