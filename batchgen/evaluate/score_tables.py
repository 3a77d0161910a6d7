"""Scores in a table, CSV or JSON lines: a row names its image by image_id or by a path; columns of numbers are scores.

A cell that is empty, or no finite number, is an image without a score; a text among numbers is a mistake. evalscope's
lines are such a table. Knows no benchmark.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
LONGEST = 40  # of a text that is shown
NOT_FINITE = "which is no finite number"

Rows = list[dict[str, Any]]  # for evaluate.scores


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table. number: of its line in the file, from 1, which is its last one where it has several."""

    number: int
    values: Mapping[str, Any]


def read_table(
    run: Run, kind: str, file: PromptFile, name: str | None
) -> tuple[list[tuple[About, Rows]], tuple[str, ...]]:
    """(who scored, rows) for each column of numbers, and the names that no image of the run has. Raises Refused."""
    table = list(_lines(file) if file.name.endswith((".jsonl", ".json")) or kind == "evalscope" else _csv(file))
    frame = Results(run.store.url).to_pandas()
    ids, own = set(frame["image_id"]), {"id", *frame.columns, *PATHS}
    records = read_records(run.store)
    images = Images(records) if records else None
    names = [_name_of(line) for line in table]
    shown = [_image(said, ids, images) for said in names]
    unknown = tuple(dict.fromkeys(said for said, image_id in zip(names, shown, strict=True) if image_id is None))
    if not any(shown):
        raise Refused(
            f"{file.name}: scores no image of {run.store}. It needs a column image_id, or a path of an export "
            f"({', '.join(PATHS[:4])}), and a column of numbers. Unknown: {', '.join(unknown[:SHOWN]) or 'none'}."
        )
    scores = {
        column: [
            {"image_id": image_id, "detail": None} | _read(line.values[column])
            for line, image_id in zip(table, shown, strict=True)
            if image_id is not None and column in line.values
        ]
        for column in _columns_of_scores(file, table, own)
    }
    _refuse_twice(file, scores)
    return [
        (About(scorer=_scorer(column, kind, name, len(scores)), version=kind, source=file.name), rows)
        for column, rows in scores.items()
    ], unknown


def _image(said: str, ids: set[str], images: Images | None) -> str | None:
    if said in ids:
        return said
    image_id = images.named(said) if images else None
    return image_id or (PurePosixPath(said).stem if PurePosixPath(said).stem in ids else None)


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


def _name_of(line: Line) -> str:
    for column in ("image_id", *PATHS):
        if isinstance(line.values.get(column), str) and line.values[column]:
            return str(line.values[column])
    raise WrongFile(f"line {line.number} names no image: it has nothing in image_id, {', '.join(PATHS)}")


def _columns_of_scores(file: PromptFile, table: Sequence[Line], own: set[str]) -> list[str]:
    """Columns in which a number stands, but for those that the run has itself. Raises Refused where there is none, and
    where a text stands among the numbers of one."""
    numbers, texts = dict[str, None](), dict[str, list[str]]()
    for line in table:
        for column, value in line.values.items():
            if column in own or isinstance(value, bool | list | dict):  # also what stands behind the last column
                continue
            if _number(value) is not None:
                numbers[column] = None
            elif value not in (None, ""):
                texts.setdefault(column, []).append(f"line {line.number} says {str(value)[:LONGEST]!r}")
    wanted = "write a number such as 0.5, or nothing where there is no score"
    if not numbers:
        there = "; ".join(f"column {column}, {said[0]}" for column, said in texts.items()) or "it has no other columns"
        raise Refused(f"{file.name}: has no column of numbers ({there}). In a column of scores {wanted}.")
    problems = [
        Problem(
            f"{', '.join(said[:SHOWN])}{f', and {len(said) - SHOWN} more' if len(said) > SHOWN else ''}: other lines "
            f"have numbers there. In a column of scores {wanted}; take out a column that is none.",
            f"{file.name}, column {column}",
        )
        for column, said in texts.items()
        if column in numbers
    ]
    if problems:
        raise Refused(problems)
    return list(numbers)


def _read(value: Any) -> dict[str, Any]:
    """Score and error of a cell. What is no finite number is unscored, which is not zero."""
    number = _number(value)
    if number is None or math.isfinite(number):
        return {"score": number, "error": None}
    return {"score": None, "error": f"the table says {value}, {NOT_FINITE}"}


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _csv(file: PromptFile) -> Iterator[Line]:
    reader = csv.DictReader(io.StringIO(file.text(), newline=""))
    try:
        yield from (Line(reader.line_num, row) for row in reader)
    except csv.Error as error:
        raise WrongFile(str(error)) from error


def _lines(file: PromptFile) -> Iterator[Line]:
    """evalscope nests its numbers under `score` or `sample_score`, by metric: they are taken as columns."""
    numbers = (number for number, line in enumerate(file.text().split("\n"), 1) if line.strip())
    for number, (_, line) in zip(numbers, file.lines(), strict=True):
        flat = {key: value for key, value in line.items() if not isinstance(value, dict)}
        for key in ("score", "scores", "sample_score", "value"):
            if isinstance(line.get(key), dict):
                flat |= {name: value for name, value in line[key].items() if name not in flat}
        yield Line(number, flat)
