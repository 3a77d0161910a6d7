"""The prompt files of benchmarks as bytes and, after that, as JSON, JSONL, CSV or text. Knows no benchmark."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from batchgen.errors import Refused
from batchgen.storage.store import Store
from batchgen.words import is_unicode


class WrongFile(ValueError):
    """A file is not what a benchmark's prompts are in. Says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PromptFile:
    """name: the last part of its path. folder: the part before that. data: its bytes."""

    name: str
    data: bytes
    folder: str = ""

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    def text(self) -> str:
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise WrongFile(f"{self.name} is not UTF-8 text") from error

    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        """(line without its end, the JSON object in it) of each line that is not blank."""
        found = []
        for number, line in enumerate(self.text().split("\n"), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise WrongFile(f"{self.name}, line {number} is not JSON") from error
            if not isinstance(value, dict):
                raise WrongFile(f"{self.name}, line {number} is not a JSON object")
            found.append((line, value))
        return found

    def json(self) -> Any:
        try:
            return json.loads(self.text())
        except ValueError as error:
            raise WrongFile(f"{self.name} is not JSON") from error

    def rows(self, columns: Sequence[str], delimiter: str = ",") -> list[dict[str, str]]:
        """Rows of a table with a header, which must have these columns. Between tabs a quote is a letter."""
        text = io.StringIO(self.text(), newline="")
        try:
            if delimiter == "\t":
                reader = csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
            else:
                reader = csv.DictReader(text, delimiter=delimiter, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise WrongFile(f"{self.name} has no column {', '.join(missing)}")
            return [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
        except csv.Error as error:
            raise WrongFile(f"{self.name} is not a table ({error})") from error


def text_of(row: dict[str, Any], key: str, where: str) -> str:
    """A text that a record must have. Raises WrongFile."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise WrongFile(f"{where} has no text {key!r}")
    if not is_unicode(value):
        raise WrongFile(f"{where}: {key!r} holds half of a surrogate pair")
    return value


def record_of(row: Any) -> str:
    """A record that was no line, as one."""
    return json.dumps(row, ensure_ascii=False)


def the_only(files: Sequence[PromptFile]) -> PromptFile:
    """Raises WrongFile where there are several."""
    if len(files) != 1:
        raise WrongFile(f"{len(files)} files were given")
    return files[0]


def read_files(places: Sequence[str]) -> list[PromptFile]:
    """Files, and all files of folders, by path or URL. Raises Refused where one is missing."""
    found, missing = list[PromptFile](), list[str]()
    for place in places:
        if files := list(_files_at(place)):
            found += files
        else:
            missing.append(place)
    if missing:
        raise Refused(f"{', '.join(missing)}: no such file, or an empty folder. Name the benchmark's prompt files.")
    return found


def digest_of(files: Sequence[PromptFile]) -> str:
    """sha256 of the file; of several, over their names and digests, in order of names."""
    digests = sorted((f"{file.folder}/{file.name}", hashlib.sha256(file.data).hexdigest()) for file in files)
    return digests[0][1] if len(digests) == 1 else hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _files_at(place: str) -> Iterator[PromptFile]:
    store = Store.open(place)
    entries = store.list()
    for entry in entries:
        path = PurePosixPath(entry.path)
        if not any(part.startswith(".") for part in path.parts):
            yield PromptFile(path.name, store.read(entry.path), path.parent.name or PurePosixPath(place).name)
    if not entries:
        parent, name = split(place)
        with suppress(FileNotFoundError):
            yield PromptFile(name, parent.read(name), PurePosixPath(parent.url).name)


def split(path: str) -> tuple[Store, str]:
    """The folder of a file, and its name there."""
    folder, _, name = path.rpartition("/")
    return Store.open(folder or ("/" if path.startswith("/") else ".")), name
