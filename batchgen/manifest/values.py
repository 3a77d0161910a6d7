"""The values of a source under our names and types, each odd one turned into a complaint about its row.

Knows what type a column must have, not what its numbers may be: those are checked in `checks`. Never raises for a
value: whatever a file may hold becomes a typed value, or null and a complaint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.columns import CODES, FLOATS, INTEGERS, MANIFEST
from batchgen.job.section import too_large_seed
from batchgen.manifest.columns import is_nested, is_text, plain
from batchgen.manifest.formats import Line, Source
from batchgen.manifest.lines import read_lines
from batchgen.manifest.parquet import read_parquet
from batchgen.words import is_unicode

Mask = npt.NDArray[np.bool_]

NOT_UNICODE = "holds bytes that are no UTF-8 text: write it again as UTF-8"
SHOWN = 60  # characters of a value in a message


class Complaints:
    """What is wrong with which rows. The first code of a row is the one it is counted under.

    A number that cannot be used has its column's code; a value of the wrong type is BAD_VALUE in every column.
    """

    def __init__(self) -> None:
        self._found: dict[int, list[tuple[str, str]]] = {}
        self._columns: set[tuple[int, str]] = set()

    def add(self, row: int, code: str, text: str) -> None:
        self._found.setdefault(row, []).append((code, text))

    def about(self, row: int, column: str, code: str, text: str) -> None:
        self.add(row, code, f"column {column} {text}")
        self._columns.add((row, column))

    def mentions(self, row: int, *columns: str) -> bool:
        """Whether one of these columns was complained about: its null says nothing then."""
        return any((row, column) in self._columns for column in columns)

    def __contains__(self, row: int) -> bool:
        return row in self._found

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._found))

    def __len__(self) -> int:
        return len(self._found)

    def code(self, row: int) -> str:
        return self._found[row][0][0]

    def message(self, row: int) -> str:
        return "; ".join(text for _, text in self._found[row])


@dataclass(slots=True)
class Rows:
    """The prompt rows of one source. ours and extras: one Arrow array each, null where absent or complained about.

    numbers: 1-based row (Parquet) or line of each. unreadable: text of lines that are no rows at all.
    """

    ours: dict[str, pa.Array]
    extras: dict[str, pa.Array]
    numbers: npt.NDArray[np.int64]
    complaints: Complaints
    unreadable: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)


def read_rows(source: Source, columns: Mapping[str, str], extras: Sequence[pa.Field]) -> Rows:
    """Read a source. columns: `input.columns` of the job. Raises Refused for a damaged file, never for a value."""
    theirs = {ours: name for name, ours in columns.items()}
    finals = [*MANIFEST, *(extra.name for extra in extras)]
    names = {final: theirs.get(final, final) for final in finals if final in theirs or final not in columns}
    if source.format != "parquet":
        return _from_lines(read_lines(source), names, extras, spelled=bool(source.header))
    return _from_arrow(read_parquet(source, list(names.values())), source.first_row, names, extras)


def _from_arrow(table: pa.Table, first_row: int, names: Mapping[str, str], extras: Sequence[pa.Field]) -> Rows:
    complaints, size = Complaints(), len(table)
    rows = Rows({}, {}, np.arange(first_row + 1, first_row + 1 + size), complaints)
    for ours in MANIFEST:
        if names.get(ours) in table.column_names:
            rows.ours[ours] = _arrow_column(ours, _one_chunk(table[names[ours]]), complaints)
        else:
            rows.ours[ours] = pa.nulls(size, type_of(ours))
    for extra in _by_name(extras):
        if names.get(extra.name) in table.column_names:
            rows.extras[extra.name] = _arrow_extra(extra, _one_chunk(table[names[extra.name]]), complaints)
        else:
            rows.extras[extra.name] = pa.nulls(size, extra.type)
    return rows


def _by_name(extras: Sequence[pa.Field]) -> list[pa.Field]:
    """Extras come in the order of their first file; what is said of a row must not depend on that."""
    return sorted(extras, key=lambda extra: str(extra.name))


def type_of(ours: str) -> pa.DataType:
    """The type of a column of ours, whatever the file had."""
    return pa.int64() if ours in INTEGERS else pa.float64() if ours in FLOATS else pa.string()


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    kind = plain(column.type)
    return (column if column.type == kind else column.cast(kind)).combine_chunks()


def _arrow_column(ours: str, values: pa.Array, complaints: Complaints) -> pa.Array:
    if ours in INTEGERS:
        return _arrow_integers(ours, values, complaints)
    if ours in FLOATS:
        return values.cast(pa.float64(), safe=False)
    return utf8(ours, values.cast(pa.string()), complaints)


def utf8(column: str, values: pa.Array, complaints: Complaints) -> pa.Array:
    """Text that is text. Arrow believes what a file says, and later steps would fail far from here."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([*_decoded(column, values, complaints)], pa.string())
    return values


def _decoded(column: str, values: pa.Array, complaints: Complaints) -> Iterator[str | None]:
    for row, raw in enumerate(values.cast(pa.binary()).to_pylist()):
        try:
            yield None if raw is None else raw.decode("utf-8")
        except UnicodeDecodeError:
            complaints.about(row, column, "BAD_UTF8", NOT_UNICODE)
            yield None


def _arrow_integers(column: str, values: pa.Array, complaints: Complaints) -> pa.Array:
    """Integers as they are, whole floats as integers (pandas makes floats of integers with gaps)."""
    if pa.types.is_floating(values.type):
        return _whole_floats(column, values, complaints)
    if pa.types.is_uint64(values.type):
        large = np.asarray(pc.greater(values, pa.scalar(2**63 - 1, pa.uint64())).fill_null(False))
        for row in np.flatnonzero(large).tolist():
            complaints.about(row, column, CODES[column], _too_large(column, values[row].as_py()))
        values = without(values, large)
    return values.cast(pa.int64())


def _whole_floats(column: str, values: pa.Array, complaints: Complaints) -> pa.Array:
    wide = values.cast(pa.float64())
    numbers, valid = wide.to_numpy(zero_copy_only=False), np.asarray(wide.is_valid())
    with np.errstate(invalid="ignore"):
        odd = valid & ~(np.isfinite(numbers) & (numbers == np.floor(numbers)))
        # A float cannot tell 2^53 from its neighbours: such a seed is not the one that somebody wrote.
        large = valid & ~odd & (np.abs(numbers) >= 2.0**53)
    for row in np.flatnonzero(odd).tolist():
        complaints.about(row, column, "BAD_VALUE", f"is {numbers[row]:g}, not an integer")
    for row in np.flatnonzero(large).tolist():
        complaints.about(row, column, CODES[column], f"is {numbers[row]:g}, too large for a float: write integers")
    usable = valid & ~odd & ~large
    return pa.array(np.where(usable, numbers, 0).astype(np.int64), mask=~usable)


def without(values: pa.Array, rows: Mask) -> pa.Array:
    """The same values, null in these rows."""
    return pc.if_else(pa.array(rows), pa.scalar(None, values.type), values) if rows.any() else values


def _arrow_extra(extra: pa.Field, values: pa.Array, complaints: Complaints) -> pa.Array:
    if is_nested(values.type):
        return _each(extra, values, lambda value: json.dumps(value, ensure_ascii=False, default=str), complaints)
    if is_text(values.type) or pa.types.is_null(values.type):
        return utf8(extra.name, values.cast(pa.string()), complaints)
    try:
        return values.cast(extra.type)
    except pa.ArrowInvalid:  # an integer of this file that the floats of another cannot hold
        return _each(extra, values, lambda value: pa.scalar(value, values.type).cast(extra.type).as_py(), complaints)


def _each(extra: pa.Field, values: pa.Array, convert: Callable[[Any], Any], complaints: Complaints) -> pa.Array:
    """One value at a time, for columns where some may be impossible."""
    converted = list[Any]()
    for row in range(len(values)):
        try:
            value = values[row].as_py()
            result = None if value is None else convert(value)
            pa.scalar(result, extra.type)
        except UnicodeError:
            complaints.about(row, extra.name, "BAD_UTF8", NOT_UNICODE)
            result = None
        except (ValueError, OverflowError, TypeError, KeyError, pa.ArrowException) as error:
            complaints.about(row, extra.name, "BAD_VALUE", f"cannot pass through ({error})")
            result = None
        converted.append(result)
    return pa.array(converted, extra.type)


def _from_lines(lines: Sequence[Line], names: Mapping[str, str], extras: Sequence[pa.Field], spelled: bool) -> Rows:
    """spelled: numbers are text, as in CSV."""
    complaints = Complaints()
    rows = Rows({}, {}, np.fromiter((line.number for line in lines), np.int64, len(lines)), complaints)
    for row, line in enumerate(lines):
        if line.record is None:
            complaints.add(row, line.code, line.error)
            rows.unreadable[row] = line.text
    records = [line.record or {} for line in lines]
    for ours in MANIFEST:
        theirs = names.get(ours)
        values: list[Any] = [record.get(theirs) for record in records] if theirs else [None] * len(records)
        if spelled and ours in (*INTEGERS, *FLOATS):
            values = [_number(value) for value in values]
        rows.ours[ours] = _json_column(ours, values, complaints)
    for extra in _by_name(extras):
        values = [record.get(names[extra.name]) for record in records]
        if pa.types.is_string(extra.type):
            values = _each_json(extra.name, values, _json_dumped, complaints)
            rows.extras[extra.name] = _texts(extra.name, values, complaints)
        else:
            rows.extras[extra.name] = pa.array(values, extra.type)  # json_type() found that all of them fit
    return rows


def _number(text: str | None) -> Any:
    """The number that a text spells, an integer where it is one; the text where it spells none."""
    for kind in (int, float):
        try:
            return text if text is None or "_" in text else kind(text)
        except ValueError:
            continue
    return text


def _json_dumped(_: str, value: Any) -> str:
    """Text as it is, everything else as JSON text."""
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise _Odd("is nested too deeply") from error


def _json_column(ours: str, values: list[Any], complaints: Complaints) -> pa.Array:
    if ours in INTEGERS:
        return pa.array(_each_json(ours, values, _json_integer, complaints), pa.int64())
    if ours in FLOATS:
        return pa.array(_each_json(ours, values, _json_float, complaints), pa.float64())
    convert = {"id": _json_id, "aspect_ratio": _json_ratio}.get(ours, _json_text)
    return _texts(ours, _each_json(ours, values, convert, complaints), complaints)


class _Odd(ValueError):
    """A JSON value that its column cannot hold. code: empty for BAD_VALUE."""

    def __init__(self, text: str, code: str = "BAD_VALUE") -> None:
        super().__init__(text)
        self.code = code


def _each_json(column: str, values: list[Any], convert: Callable[[str, Any], Any], complaints: Complaints) -> list[Any]:
    converted = list[Any]()
    for row, value in enumerate(values):
        try:
            converted.append(None if value is None else convert(column, value))
        except _Odd as odd:
            complaints.about(row, column, odd.code, str(odd))
            converted.append(None)
    return converted


def _json_text(_: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _Odd(f"is {shown(value)}, not text")


def _json_id(column: str, value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _json_text(column, value)


def _json_ratio(column: str, value: Any) -> str:
    return repr(value) if isinstance(value, float) else _json_id(column, value)


def _json_integer(column: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        if abs(value) >= 2**53:
            raise _Odd(f"is {value:g}, too large for a float: write integers", CODES[column])
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Odd(f"is {shown(value)}, not an integer")
    if not -(2**63) <= value < 2**63:
        raise _Odd(_too_large(column, value), CODES[column])
    return value


def _too_large(column: str, value: int) -> str:
    of_seeds = column == "seed" and 0 < value < 2**64  # what another program may have drawn
    return too_large_seed(value) if of_seeds else f"is {shown(value)}, which is too large"


def _json_float(column: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        comma = isinstance(value, str) and re.fullmatch(r"-?\d+,\d+", value)
        hint = f": write {str(value).replace(',', '.')}" if comma else ""
        raise _Odd(f"is {shown(value)}, not a number{hint}")
    try:
        return float(value)
    except OverflowError as error:
        raise _Odd(f"is {shown(value)}, which is too large", CODES[column]) from error


def _texts(column: str, values: list[str | None], complaints: Complaints) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # JSON escapes can spell half a surrogate pair
        whole = [value if value is None or is_unicode(value) else None for value in values]
        for row, (value, kept) in enumerate(zip(values, whole, strict=True)):
            if value is not None and kept is None:
                complaints.about(row, column, "BAD_UTF8", NOT_UNICODE)
        return pa.array(whole, pa.string())


def shown(value: Any) -> str:
    """A value in a message: short, and on one line."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**SHOWN else "an integer of many digits"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
