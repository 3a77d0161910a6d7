"""Manifests of lines, JSONL, CSV, TSV and TXT, compressed or not: looked through once, divided between records.

Knows bytes, records and kinds of values, not what a column means: names are the file's own. How a record is written is
known to `jsonl` and `delimited`. A record that cannot be read is a row too, with a complaint.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO

import pyarrow as pa

from batchgen.errors import Infrastructure, Problem, Refused
from batchgen.manifest import delimited, jsonl
from batchgen.manifest.columns import FileColumns
from batchgen.manifest.formats import BLOCK, SOURCE_ROWS, Format, Inspected, Line, Piece, Source, changed
from batchgen.storage.store import Store

SOURCE_BYTES = 16 * 2**20
MAX_LINE_BYTES = 16 * 2**20
MAX_BLANK_BYTES = 2**20  # of a compressed file: a million blank lines are a kilobyte of it
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
BOM = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def inspect_lines(store: Store, path: str, name: str, format: Format, id_column: str) -> Inspected:
    """Read all of a file for its columns and kinds of values, and divide it. Raises Refused where it is damaged."""
    whole = Source(store=store, path=path, name=name, format=format, first_row=0, rows=0, version="")
    with _opened(whole) as lines:
        before = list[bytes]()
        if format in delimited.USUAL:
            found = delimited.opening(lines, whole)
            before = found.lines
            start = sum(map(len, before))
            whole = replace(whole, header=found.names, delimiter=found.delimiter, start=start)
        scan = _Scan(whole, before)
        for piece in _pieces(whole, lines, scan.number):
            scan.add(piece)
    sources = scan.finish()
    if scan.rows and not scan.records and format == "jsonl":
        raise Refused(Problem(jsonl.NO_OBJECTS, name))
    kinds = {column: scan.kinds.get(column, {"null"}) for column in (*whole.header, *scan.kinds)}
    has_ids = bool(kinds.get(id_column, {"null"}) - {"null"})
    columns = FileColumns(name, kinds={column: frozenset(found) for column, found in kinds.items()})
    return Inspected(columns, sources, scan.digest.digest(), has_ids)


def read_lines(source: Source) -> list[Line]:
    """The rows of a source; blank lines are none."""
    with _opened(source, source.start) as lines:
        pieces = [*_pieces(source, _until(lines, source.end - source.start), source.first_row)]
    if hashlib.sha256(b"".join(piece.raw for piece in pieces)).hexdigest() != source.version:
        raise changed(source)
    return [piece.line for piece in pieces if piece.line is not None]


def _pieces(source: Source, lines: Iterator[bytes], before: int) -> Iterator[Piece]:
    """Records, and blank lines, with the bytes they are made of."""
    if source.format in delimited.USUAL:
        return delimited.pieces(lines, source.header, source.delimiter, before)
    parse = jsonl.parse_line if source.format == "jsonl" else _prompt
    return (Piece(raw, 1, parse(raw.removeprefix(BOM) if number == 0 else raw, number))
            for number, raw in enumerate(lines, before))  # fmt: skip


def _prompt(line: bytes, before: int) -> Line | None:
    """A line of TXT: one prompt."""
    try:
        text = line.decode("utf-8").strip()
        return Line(before + 1, "", {"prompt": text}) if text else None
    except UnicodeDecodeError as error:
        return Line.not_unicode(before + 1, line, error)


class _Scan:
    """The state of one pass over a file. number, rows, records: lines, rows and readable rows so far."""

    def __init__(self, whole: Source, header: list[bytes]) -> None:
        self.digest, self.kinds = hashlib.sha256(b"".join(header)), dict[str, set[str]]()
        self.number, self.rows, self.records = len(header), 0, 0
        self._whole, self._sources = whole, list[Source]()
        self._offset = self._start = whole.start
        self._first_line, self._first_row = self.number, 0
        self._part = hashlib.sha256()
        self._blank = 0

    def add(self, piece: Piece) -> None:
        self.digest.update(piece.raw)
        self._part.update(piece.raw)
        self.number += piece.lines
        self._offset += len(piece.raw)
        if piece.line is None:
            self._refuse_blank(len(piece.raw))
        else:
            self.rows += 1
            if piece.line.record is not None:
                self.records += 1
                self._note(piece.line.record)
        if self._offset - self._start >= SOURCE_BYTES or self.rows - self._first_row >= SOURCE_ROWS:
            self._close()

    def _refuse_blank(self, size: int) -> None:
        self._blank += size
        if self._blank > MAX_BLANK_BYTES and compression_of(self._whole.path):
            raise Refused(
                Problem("decompresses to more than 1 MiB of blank lines. Write it without them.", self._whole.name)
            )

    def _note(self, record: dict[str, Any]) -> None:
        for key, value in record.items():
            known = self.kinds.get(key)
            if known is None:
                known = self.kinds[key] = set()
            known.add(jsonl.kind_of(value))

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


@contextmanager
def _opened(source: Source, start: int = 0) -> Iterator[Iterator[bytes]]:
    """The lines of a file from a byte on, counted in what was decompressed."""
    with source.store.open_file(source.path) as opened, _decoding(source):
        file = io.BufferedReader(opened, BLOCK) if isinstance(opened, io.RawIOBase) else opened
        if compression := compression_of(source.path):
            file = io.BufferedReader(pa.input_stream(file, compression=compression), BLOCK)
            while start:  # compressed bytes have no middle: whatever lies in front is read again
                start -= len(file.read(min(start, BLOCK))) or start
        else:
            file.seek(start)
        yield _lines(file, source)


def compression_of(path: str) -> str | None:
    return next((kind for suffix, kind in COMPRESSIONS.items() if path.lower().endswith(suffix)), None)


def _lines(stream: BinaryIO, source: Source) -> Iterator[bytes]:
    for number in itertools.count(1):
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            where = f"{source.name}, line {number}"
            raise Refused(Problem("the line is longer than 16 MiB. Write one row per line.", where))
        if number == 1 and line.startswith(UTF_16):
            raise Refused(Problem("the file is UTF-16. Save it as UTF-8.", source.name))
        yield line


def _until(lines: Iterable[bytes], size: int) -> Iterator[bytes]:
    for line in lines:
        size -= len(line)
        yield line
        if size <= 0:
            return


@contextmanager
def _decoding(source: Source) -> Iterator[None]:
    """Arrow's complaints about compressed bytes are refusals; what the store says keeps its own fate."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise Infrastructure(f"{source.name} cannot be read ({error}). Run the same command again.") from error
        message = f"cannot be decompressed ({error}). Write the file again."
        raise Refused(Problem(message, source.name)) from error
