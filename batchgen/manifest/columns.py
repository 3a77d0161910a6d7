"""What a manifest's columns are called and may hold: ours by meaning, the user's own (extras) by Arrow type.

Knows types and names only: reads no file and looks at no value. One column means one thing in all files of a manifest,
so the files' types are unified here, before anything is planned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa

from batchgen.columns import FLOATS, MANIFEST, TEXTS
from batchgen.errors import Problem
from batchgen.job import Input
from batchgen.job.file import inline_yaml
from batchgen.job.names import NO_SETTINGS, SIZES, likely_prompt, meant, plain_name
from batchgen.schema import OWN_COLUMNS
from batchgen.words import nearest

MAX_EXTRAS = 64

# JSON kinds of values that one Arrow type holds; every other mixture becomes text.
# 'long' is an integer beyond 2^53, 'huge' one beyond int64.
JSON_TYPES = (
    (frozenset({"bool"}), pa.bool_()),
    (frozenset({"int", "long"}), pa.int64()),
    (frozenset({"int", "float"}), pa.float64()),
)


@dataclass(frozen=True, slots=True)
class FileColumns:
    """Columns of one file under the manifest's own names, in order.

    types: Parquet. kinds: of lines, the kinds of values of each key ('null', 'bool', 'int', 'long', 'huge', 'float',
    'str', 'nested').
    """

    name: str
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [*self.types, *self.kinds]


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a whole manifest. ours: those with a meaning. extras: what passes through, under its final name."""

    ours: tuple[str, ...]
    extras: tuple[pa.Field, ...]
    notices: tuple[str, ...]


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values, without dictionary encoding and extension names."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind))


def passed_type(kind: pa.DataType) -> pa.DataType | None:
    """The type under which an extra column passes through; None if it cannot: binary, or binary inside."""
    kind = plain(kind)
    if is_text(kind) or pa.types.is_null(kind):
        return pa.string()
    if is_nested(kind):
        inside = [plain(kind.field(i).type) for i in range(kind.num_fields)]
        return None if any(passed_type(item) is None for item in inside) else pa.string()
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return kind
    return kind if pa.types.is_decimal(kind) or pa.types.is_temporal(kind) else None


def json_type(kinds: Iterable[str]) -> pa.DataType:
    """The type of an extra column of lines that holds these kinds of values."""
    found = set(kinds) - {"null"}
    return next((kind for kinds, kind in JSON_TYPES if found and found <= kinds), pa.string())


def unify(files: Sequence[FileColumns], input: Input) -> tuple[Columns, list[Problem]]:
    """One set of columns for all files, and everything that is wrong with them."""
    problems = [*_unknown_columns(files, input)]
    for file in files:
        problems += [*_wrong_columns(file, input)]
    problems += _id_conflicts(files, input)
    extras, notices, more = _extras(files, input)
    found = {input.columns.get(name, name) for file in files for name in file.names}
    ours = tuple(name for name in MANIFEST if name in found)
    return Columns(ours, tuple(extras), tuple(notices)), problems + more


def _unknown_columns(files: Sequence[FileColumns], input: Input) -> Iterator[Problem]:
    """Names in the job file that no file has."""
    theirs = {name: None for file in files for name in file.names}
    known = [*theirs, *(input.columns.get(name, name) for name in theirs)]
    for name in input.columns:
        if files and name not in theirs:
            yield Problem(f"no file has a column {name!r}.{nearest(name, theirs)} {_has(theirs)}", "input.columns")
    for name in input.keep_columns or ():
        if files and name not in known:
            yield Problem(f"no file has a column {name!r}.{nearest(name, theirs)} {_has(theirs)}", "input.keep_columns")


def _wrong_columns(file: FileColumns, input: Input) -> Iterator[Problem]:
    """Doubled names, a missing prompt, and columns of ours with types that cannot be what they should."""
    renamed = sorted(input.columns.get(name, name) for name in file.names)
    for name, same in groupby(renamed):
        if len(list(same)) > 1:
            theirs = [key for key, ours in input.columns.items() if ours == name]
            taken = name in OWN_COLUMNS or name in MANIFEST  # only such a name may be given to another column
            both = {theirs[0]: name, name: _new_name(name)} if taken else {theirs[0]: _new_name(theirs[0])}
            message = f"{theirs[0]} is mapped to {name}, but there is a column {name} too. "
            yield Problem(f"{message}Write input.columns: {inline_yaml(both)} to keep both, or drop one.", file.name)
    if "prompt" not in renamed and (file.types or file.kinds):
        line = inline_yaml({likely_prompt(file.names) or "YOURS": "prompt"})
        yield Problem(f"there is no column 'prompt'. Write input.columns: {line}. {_has(file.names)}", file.name)
    for column, kind in file.types.items():
        ours = input.columns.get(column, column)
        if ours in MANIFEST and (wanted := _wanted(ours, plain(kind))):
            yield Problem(f"column {column} holds {kind}: write {wanted}.", file.name)


def _wanted(ours: str, kind: pa.DataType) -> str:
    """What a column of ours must hold, if `kind` is not that; otherwise nothing."""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if pa.types.is_null(kind):
        return ""
    if ours in TEXTS:
        return "" if is_text(kind) else "text (a string column)"
    if ours == "id":
        return "" if is_text(kind) or pa.types.is_integer(kind) else "text or integers"
    if ours == "aspect_ratio":
        return "" if is_text(kind) or number else "text such as 16:9, or numbers"
    return "" if number else ("numbers" if ours in FLOATS else "integers")


def _id_conflicts(files: Sequence[FileColumns], input: Input) -> list[Problem]:
    """Ids must be all text or all integers: '7' and 7 would become one name."""
    seen: dict[str, str] = {}
    for file in files:
        for theirs in file.names:
            if input.columns.get(theirs, theirs) != "id":
                continue
            if theirs in file.types:
                kind = plain(file.types[theirs])
                found = {"text"} if is_text(kind) else {"integers"} if pa.types.is_integer(kind) else set()
            else:
                kinds = file.kinds[theirs]
                found = {"text"} & {"text" for k in kinds if k == "str"}
                found |= {"integers" for k in kinds if k in ("int", "long", "huge")}
            for kind in sorted(found):
                seen.setdefault(kind, file.name)
    if len(seen) < 2:
        return []
    return [Problem(f"column id holds {_held(seen)}: write it as text everywhere.")]


def _extras(files: Sequence[FileColumns], input: Input) -> tuple[list[pa.Field], list[str], list[Problem]]:
    """The user's own columns under their final names: unified, chosen, named apart from ours."""
    candidates = _by_name(files, input)
    kept = {
        name: types for name, types in candidates.items() if input.keep_columns is None or _is_kept(name, types, input)
    }
    fields, notices, problems = [], [], []
    for name, types in kept.items():
        kind, conflict = _one_type(name, types)
        dropped = kind is None and conflict is None and input.keep_columns is None
        if name in OWN_COLUMNS and not dropped:  # what is dropped may have any name
            problems.append(_reserved(name, kept, input))
        elif conflict:
            problems.append(conflict)
        elif kind is not None:
            fields.append(pa.field(name, kind))
        elif not dropped:
            problems.append(
                Problem(f"{name} is binary ({_held(types.shown)}), which cannot pass through.", "input.keep_columns")
            )
        else:
            notices.append(f"Column {name} is binary and does not pass through.")
    notices += [*_lookalikes(kept, {input.columns.get(name, name) for file in files for name in file.names})]
    if len(fields) > MAX_EXTRAS:
        message = (
            f"the manifest has {len(fields)} columns of its own, at most {MAX_EXTRAS} pass through. "
            f"Name those to keep: [{', '.join(f.name for f in fields[:3])}, ...]."
        )
        problems.append(Problem(message, "input.keep_columns"))
    return fields, notices, problems


@dataclass(slots=True)
class _Types:
    """Where one extra column was seen. shown: type → first file with it."""

    theirs: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)  # of files of lines, together
    lines: str = ""
    arrow: dict[pa.DataType, str] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, str]:
        return {str(kind): name for kind, name in self.arrow.items()}


def _by_name(files: Sequence[FileColumns], input: Input) -> dict[str, _Types]:
    found: dict[str, _Types] = {}
    for file in files:
        for theirs in file.names:
            name = input.columns.get(theirs, theirs)
            if name in MANIFEST:
                continue
            types = found.setdefault(name, _Types())
            types.theirs.add(theirs)
            if theirs in file.types:
                types.arrow.setdefault(plain(file.types[theirs]), file.name)
            else:
                types.kinds |= file.kinds[theirs]
                types.lines = types.lines or file.name
    return found


def _is_kept(name: str, types: _Types, input: Input) -> bool:
    return input.keep_columns is not None and bool({name, *types.theirs} & set(input.keep_columns))


def _one_type(name: str, types: _Types) -> tuple[pa.DataType | None, Problem | None]:
    """The type that holds all of a column, None for binary; or the two files that cannot agree."""
    seen = [
        (kind, passed_type(kind), is_nested(kind), file)
        for kind, file in types.arrow.items()
        if not pa.types.is_null(kind)
    ]
    if found := types.kinds - {"null"}:
        seen.append((json_type(found), json_type(found), found == {"nested"}, types.lines))
    if not seen:
        return pa.string(), None
    first, result, first_nested, first_file = seen[0]
    for kind, passing, nested, file in seen[1:]:
        if result is None and passing is None:
            continue
        together = _promoted(result, passing)
        fits_json = not found or together == pa.string() or any(together == known for _, known in JSON_TYPES)
        if together is None or nested != first_nested or not fits_json:
            held = _held({str(first): first_file, str(kind): file})
            return None, Problem(f"column {name} holds {held}: write it with one type, or leave it out.")
        result = together
    return result, None


def _promoted(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    """The type that holds both, or None."""
    if one is None or other is None:
        return None
    try:
        schemas = [pa.schema([("x", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def _reserved(name: str, kept: Mapping[str, _Types], input: Input) -> Problem:
    theirs = sorted(kept[name].theirs)[0]
    rest = [other for other in kept if other not in OWN_COLUMNS]
    leave_out = f"input.keep_columns: {inline_yaml(rest)}" if len(rest) <= 8 else "input.keep_columns with the others"
    rename = inline_yaml({theirs: _new_name(theirs)})
    return Problem(
        f"column {theirs} has a name that batchgen uses. "
        f"Write input.columns: {rename} to rename it, or {leave_out} to leave it out.",
        "input.columns",
    )


def _lookalikes(kept: Mapping[str, _Types], present: Collection[str]) -> Iterator[str]:
    """Names that may be meant as one of ours: they pass through, and the user is told. present: all columns."""
    for name in kept:
        ours = meant(name)
        if plain_name(name) in NO_SETTINGS:
            yield f"Column {name} passes through and changes no image: batchgen sets no {plain_name(name)} per row."
        elif plain_name(name) in SIZES and not {"height", "width"} <= {*present}:
            yield f"Column {name} passes through and changes no image: write its numbers as columns height and width."
        elif ours and ours not in present and name not in OWN_COLUMNS:
            line = inline_yaml({name: ours})
            yield f"Column {name} passes through. If it is meant as {ours}, write input.columns: {line}."


def _new_name(name: str) -> str:
    return f"source_{name}"


def _has(names: Iterable[str]) -> str:
    shown = list(names)
    return f"There are: {', '.join(shown[:20])}{', ...' if len(shown) > 20 else ''}."


def _held(seen: Mapping[str, str]) -> str:
    return " and ".join(f"{kind} in {file}" for kind, file in seen.items())
