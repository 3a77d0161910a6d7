"""Scores in a table, CSV or JSON lines: a row names its image by image_id or by a path; columns of numbers are scores.

evalscope's lines are such a table. Knows no benchmark.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from batchgen.errors import Problem, Refused
from batchgen.evaluate.exported import read_records
from batchgen.evaluate.image_names import Images
from batchgen.evaluate.prompt_file import PromptFile, WrongFile
from batchgen.evaluate.scores import About
from batchgen.look.results import Results
from batchgen.run.directory import Run

PATHS = ("path", "image_path", "filename", "file", "file_name", "img_path", "image")  # columns that may name a file
SHOWN = 5

Rows = list[dict[str, Any]]  # for evaluate.scores


def read_table(
    run: Run, kind: str, file: PromptFile, name: str | None
) -> tuple[list[tuple[About, Rows]], tuple[str, ...]]:
    """Each column of numbers is a score; a row names its image by image_id or by a path."""
    table = _lines(file) if file.name.endswith((".jsonl", ".json")) or kind == "evalscope" else _csv(file)
    frame = Results(run.store.url).to_pandas()
    ids, own = set(frame["image_id"]), {"id", *frame.columns, *PATHS}
    records = read_records(run.store)
    images = Images(records) if records else None
    scores: dict[str, Rows] = {}
    unknown = []
    for number, row in enumerate(table, 1):
        said = _name_of(row, number)
        image_id = said if said in ids else images.named(said) if images else None
        image_id = image_id or (PurePosixPath(said).stem if PurePosixPath(said).stem in ids else None)
        if image_id is None:
            unknown.append(said)
            continue
        for column, score in _numbers(row, own).items():
            scores.setdefault(column, []).append({"image_id": image_id, "score": score, "detail": None, "error": None})
    if not scores:
        raise Refused(
            f"{file.name}: scores no image of {run.store}. It needs a column image_id, or a path of an export "
            f"({', '.join(PATHS[:4])}), and a column of numbers. Unknown: {', '.join(unknown[:SHOWN]) or 'none'}."
        )
    _refuse_twice(file, scores)
    return [
        (About(scorer=_scorer(column, kind, name, len(scores)), version=kind, source=file.name), rows)
        for column, rows in scores.items()
    ], tuple(dict.fromkeys(unknown))


def _refuse_twice(file: PromptFile, scores: Mapping[str, Rows]) -> None:
    problems = []
    for column, rows in scores.items():
        names = [row["image_id"] for row in rows]
        if len(set(names)) < len(names):
            problems.append(Problem(f"column {column} scores {len(names) - len(set(names))} images twice", file.name))
    if problems:
        raise Refused(problems)


def _scorer(column: str, kind: str, name: str | None, columns: int) -> str:
    """The name of a column's scores: as the user said, or the column's own."""
    if name and columns == 1:
        return name
    own = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in column.lower()).strip("-._")
    return f"{name or kind}-{own}"


def _name_of(row: Mapping[str, Any], number: int) -> str:
    for column in ("image_id", *PATHS):
        if isinstance(row.get(column), str) and row[column]:
            return str(row[column])
    raise WrongFile(f"row {number} names no image: it has nothing in image_id, {', '.join(PATHS)}")


def _numbers(row: Mapping[str, Any], own: set[str]) -> dict[str, float | None]:
    """Columns that hold numbers, but for those that the run has itself. An empty one is unscored, which is not zero."""
    found: dict[str, float | None] = {}
    for column, value in row.items():
        if column in own or isinstance(value, bool | list | dict):
            continue
        if value in (None, ""):
            found[column] = None
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        found[column] = number if math.isfinite(number) else None
    return found


def _csv(file: PromptFile) -> list[dict[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(file.text(), newline="")))
    except csv.Error as error:
        raise WrongFile(str(error)) from error


def _lines(file: PromptFile) -> list[dict[str, Any]]:
    """evalscope nests its numbers under `score` or `sample_score`, by metric: they are taken as columns."""
    rows = []
    for _, line in file.lines():
        flat = {key: value for key, value in line.items() if not isinstance(value, dict)}
        for key in ("score", "scores", "sample_score", "value"):
            if isinstance(line.get(key), dict):
                flat |= {name: value for name, value in line[key].items() if name not in flat}
        rows.append(flat)
    return rows
