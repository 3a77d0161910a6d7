"""From `input.path` to the sources of a manifest: which files, in which order, with which columns, and their digest.

Finds everything that is wrong with files and columns, all at once, before a task is started. Knows nothing of what a
row means; what a path is and how bytes are read is known to `storage`.
"""

from __future__ import annotations

import hashlib
import os.path
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from batchgen.columns import MANIFEST
from batchgen.errors import Problem, Refused, StoreRefused
from batchgen.job import Input, Job
from batchgen.manifest.columns import Columns, unify
from batchgen.manifest.delimited import USUAL
from batchgen.manifest.formats import Format, Inspected, Source
from batchgen.manifest.lines import COMPRESSIONS, compression_of, inspect_lines
from batchgen.manifest.parquet import inspect_parquet
from batchgen.storage.store import PROBE_SECONDS, Store
from batchgen.words import closest, redact

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
}
FORMATS = "Parquet, JSONL, CSV, TSV or TXT"
AT_ONCE = 8  # files read at the same time: enough to hide a store's latency
SHOWN = 5
# A folder of one prompt a file becomes a table whose ids are the names of the files.
ONE_EACH = (
    "Where a file is one prompt, make a table of them, with FOLDER in place: python3 -c 'import json, pathlib; [print("
    'json.dumps({"id": p.stem, "prompt": p.read_text("utf-8").strip()})) for p in sorted(pathlib.Path("FOLDER").rglob('
    """"*.txt"))]' > prompts.jsonl"""
)
MANY_FILES = 10_000  # each is opened, read and planned by itself


@dataclass(frozen=True, slots=True)
class Sources:
    """A whole manifest. items: in manifest order (files sorted by path). extras: the user's own columns as they pass.

    columns: those of ours that it has. digest: over the bytes of all files in order, never their paths.
    rows: prompt rows, good and bad. own_ids: whether it names its rows itself; then every row must have an id.
    """

    items: list[Source]
    extras: list[pa.Field]
    columns: list[str]
    notices: list[str]
    digest: str
    rows: int
    own_ids: bool


@dataclass(frozen=True, slots=True, order=True)
class _File:
    """url: of the file, for order and for people. path: within its store."""

    url: str
    path: str
    size: int
    store: Any


def find_sources(input: Input) -> Sources:
    """List, check and divide the manifest. Raises Refused with every problem of files and columns."""
    patterns = [input.path] if isinstance(input.path, str) else input.path
    files, problems = list[_File](), list[Problem]()
    if not patterns:
        problems.append(Problem("is empty. Name a file, a folder or a glob.", "input.path"))
    for pattern in patterns:
        try:
            files += _matching(pattern)
        except Refused as error:
            problems += error.problems
        except StoreRefused as error:
            problems.append(Problem(str(error), "input.path"))
    files = sorted({file.url: file for file in files}.values())
    names = _short_names([file.url for file in files])
    inspected, damaged = _inspect_all(files, names, input)
    columns, wrong = unify([file.columns for file in inspected], input)
    problems += damaged + wrong
    if problems:
        raise Refused(problems)
    return _together(inspected, columns)


def column_names(pattern: str) -> list[str]:
    """The columns of a manifest's first file, under their own names. Raises Refused where it cannot be read."""
    try:
        file = min(_matching(pattern))
        return _inspect(file, file.path, Input(path=pattern)).columns.names
    except StoreRefused as error:
        raise Refused(Problem(str(error), "input.path")) from error


def refuse_swept_columns(job: Job, sources: Sources) -> None:
    """A swept value cannot also come from the manifest: which of the two decides would be a guess."""
    axes = job.sweep.keys
    there = {*sources.columns, *(field.name for field in sources.extras)}
    clashes = [name for name in axes if name in there and name != "prompt"]  # a swept prompt is made of it
    if "aspect_ratio" in sources.columns:
        clashes += [f"{name} (as aspect_ratio)" for name in ("height", "width") if name in axes and name not in clashes]
    if clashes:
        raise Refused(
            [
                Problem(f"is swept, but the manifest has a column {name} too. Drop one of them.", f"sweep.{axis}")
                for axis, name in ((clash.split(" ")[0], clash) for clash in clashes)
            ]
        )


def _together(files: Sequence[Inspected], columns: Columns) -> Sources:
    own_ids = any(file.has_ids for file in files)
    sources = [source for file in files for source in file.sources]
    # Somebody waited for the listing; tasks have more patience with a store that is busy.
    stores = {source.store.url: Store(source.store.protocol, source.store.url) for source in sources}
    items = [replace(source, own_ids=own_ids, store=stores[source.store.url]) for source in sources]
    rows = sum(source.rows for source in items)
    notices = [*columns.notices, *_of_lines(sources)]
    if not rows:
        notices.append("The manifest has no rows: the dataset will be empty.")
    if len(files) > MANY_FILES:
        notices.append(f"The manifest has {len(files):,} files. Fewer and larger ones are planned much faster.")
    return Sources(
        items=items,
        extras=list(columns.extras),
        columns=list(columns.ours),
        notices=notices,
        digest=hashlib.sha256(b"".join(file.digest for file in files)).hexdigest(),
        rows=rows,
        own_ids=own_ids,
    )


def _of_lines(sources: Sequence[Source]) -> Iterator[str]:
    """How files of lines were read, where it is not the only way."""
    unusual = {source.name: source.delimiter for source in sources if source.delimiter != USUAL.get(source.format, "")}
    for name, delimiter in unusual.items():
        yield f"{name} is read with {delimiter!r} between its values, as in its header."
    texts = {source.name for source in sources if source.format == "txt"}
    if len(texts) > 1:
        yield f"{len(texts)} text files: each line is a prompt; column source_file says from which file. {ONE_EACH}"


def _inspect_all(files: Sequence[_File], names: Sequence[str], input: Input) -> tuple[list[Inspected], list[Problem]]:
    found, problems = list[Inspected](), list[Problem]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = [pool.submit(_inspect, file, name, input) for file, name in zip(files, names, strict=True)]
        for result in pending:
            try:
                found.append(result.result())
            except Refused as error:
                problems += error.problems
            except (StoreRefused, FileNotFoundError) as error:
                problems.append(Problem(str(error), "input.path"))
    return found, problems


def _inspect(file: _File, name: str, input: Input) -> Inspected:
    if not file.size:
        raise Refused(Problem("the file is empty (0 bytes). Write it again, or leave it out.", name))
    id_column = next((theirs for theirs, ours in input.columns.items() if ours == "id"), "id")
    format = _format(file.path)
    if format and format != "parquet":
        return inspect_lines(file.store, file.path, name, format, id_column)
    return inspect_parquet(file.store, file.path, name, id_column, lambda column: _is_left_out(column, input))


def _is_left_out(column: str, input: Input) -> bool:
    ours = input.columns.get(column, column)
    return ours not in MANIFEST and input.keep_columns is not None and not {column, ours} & {*input.keep_columns}


def _matching(pattern: str) -> list[_File]:
    """The files that a path, a folder or a glob means, without those that are hidden."""
    Store.open(pattern)  # refuses credentials, before a part of the URL without them is asked for
    folder, name = _parent(pattern)
    if folder and (found := _stat(Store.open(folder, PROBE_SECONDS), name)):
        return [_supported(found, pattern)]
    if re.search(r"[*?[]", pattern):
        return _globbed(pattern)
    store = Store.open(pattern, PROBE_SECONDS)
    entries = store.list()
    if not entries:
        raise Refused(_missing(pattern, folder, name))
    visible = [entry for entry in entries if not any(part.startswith(("_", ".")) for part in entry.path.split("/"))]
    only_text = all(_format(entry.path) in ("txt", None) for entry in visible)
    # A text file beside tables is rather their README than a list of prompts.
    foreign = [entry.path for entry in visible if (_format(entry.path) or "txt") == "txt" and not only_text]
    foreign = foreign or [entry.path for entry in visible if _format(entry.path) is None]
    if foreign:
        message = f"there are files that are no tables of prompts: {_some(foreign)}. Move them away, or write "
        raise Refused(Problem(f"{message}{pattern.rstrip('/')}/*.parquet.", f"input.path {redact(pattern)}"))
    if not visible:
        raise Refused(Problem(f"the folder holds no {FORMATS} file.", f"input.path {redact(pattern)}"))
    return [_file(store, entry.path, entry.size) for entry in visible]


def _globbed(pattern: str) -> list[_File]:
    scheme, separator, rest = pattern.rpartition("://")
    parts = rest.split("/")
    first = next(i for i, part in enumerate(parts) if re.search(r"[*?[]", part))
    root = "/".join(parts[:first]) or ("/" if rest.startswith("/") else "" if separator else ".")
    store = Store.open(scheme + separator + root, PROBE_SECONDS)
    matches = _glob_regex(parts[first:])
    entries = store.list(recursive=len(parts) > first + 1 or parts[first] == "**")
    found = [_file(store, entry.path, entry.size) for entry in entries if matches.fullmatch(entry.path)]
    if not found:
        message = f"no file matches. Looked for {'/'.join(parts[first:])} in {store}."
        raise Refused(Problem(message, f"input.path {redact(pattern)}"))
    return [_supported(file, pattern) for file in found]


def _glob_regex(parts: Sequence[str]) -> re.Pattern[str]:
    """'**' stands for any number of folders, '*' and '?' never for a slash, nor for the dot of a hidden file."""
    *folders, last = [*parts, "*"] if parts[-1] == "**" else parts
    pieces = ["(?:[^/.][^/]*/)*" if part == "**" else _glob_part(part) + "/" for part in folders]
    return re.compile("".join(pieces) + _glob_part(last))


def _glob_part(part: str) -> str:
    def translate(match: re.Match[str]) -> str:
        text = match.group()
        if text in "*?":
            return "[^/]*" if text == "*" else "[^/]"
        return text.replace("[!", "[^").replace("\\", "\\\\") if len(text) > 1 else re.escape(text)

    hidden = "" if part.startswith(".") else r"(?!\.)"
    return hidden + re.sub(r"\[!?[^\]]+\]|.", translate, part)


def _stat(store: Store, name: str) -> _File | None:
    """The file of that name, or nothing."""
    try:
        return _file(store, name, store.size(name))
    except FileNotFoundError:
        return None


def _file(store: Store, path: str, size: int) -> _File:
    return _File(f"{store.url.rstrip('/')}/{path}", path, size, store)


def _supported(file: _File, pattern: str) -> _File:
    if _format(file.path) is None:
        message = f"{file.path} is no {FORMATS} file by its name: it must end in {', '.join(SUFFIXES)}"
        message += f", and but for Parquet one of {', '.join(COMPRESSIONS)} may follow."
        raise Refused(Problem(message, f"input.path {redact(pattern)}"))
    return file


def _format(path: str) -> Format | None:
    """By the name alone. Parquet compresses inside, so that nothing may follow its suffix."""
    compressed = compression_of(path) is not None
    found = SUFFIXES.get(os.path.splitext(os.path.splitext(path)[0] if compressed else path)[1].lower())
    return None if compressed and found == "parquet" else found


def _parent(pattern: str) -> tuple[str, str]:
    """Folder and last name of a path or URL; no folder where the URL is a bucket."""
    scheme, separator, rest = pattern.rpartition("://")
    folder, slash, name = rest.rstrip("/").rpartition("/")
    if not folder:
        if separator and scheme != "memory":
            return (f"{scheme}{separator}/", name) if slash and scheme in ("file", "local") else ("", name)
        folder = "/" if slash or separator else "."
    return scheme + separator + folder, name


def _missing(pattern: str, folder: str, name: str) -> Problem:
    where = f"input.path {redact(pattern)}"
    if not folder:
        return Problem("there is no such place, or nothing in it.", where)
    store = Store.open(folder, PROBE_SECONDS)
    beside = [entry.path for entry in store.list(recursive=False)]
    stems = {entry.partition(".")[0]: entry for entry in beside}  # all of them end alike
    close = closest(name.partition(".")[0], stems)
    near = f" Did you mean {stems[close]}?" if close else ""
    there = f" There are: {_some([n for n in beside if _format(n)])}." if any(map(_format, beside)) and not near else ""
    return Problem(f"there is no such file or folder. Looked for {name} in {store}.{near}{there}", where)


def _short_names(urls: Sequence[str]) -> list[str]:
    """Paths without the folders that all of them share: what people are shown."""
    folders = [url.split("/")[:-1] for url in urls]
    shared = 0
    while folders and all(len(folder) > shared and folder[shared] == folders[0][shared] for folder in folders):
        shared += 1
    return [redact("/".join(url.split("/")[shared:])) for url in urls]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
