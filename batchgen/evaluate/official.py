"""Scores that others made → rows of OUT/scores/: a benchmark's own scorer, evalscope, or any table.

A scorer names files; which image a file shows, the records of the run's exports say. Knows how rows of a table name an
image, and leaves the outputs of benchmarks to their own files.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from batchgen.errors import Problem, Refused
from batchgen.evaluate.benchmark import Benchmark, Judged
from batchgen.evaluate.benchmarks import benchmark_named
from batchgen.evaluate.exported import Record, read_records
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, read_files
from batchgen.evaluate.scores import About, write_part
from batchgen.look.results import Results
from batchgen.run.directory import Run

TABLES = ("csv", "evalscope")
PATHS = ("path", "image_path", "filename", "file", "file_name", "img_path", "image")  # columns that may name a file
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Taken:
    """scored, unscored: images of the run. parts: paths of what was written below the run. unknown: names in the
    scorer's output that are no image of the run."""

    scorers: tuple[str, ...]
    scored: int
    unscored: int
    parts: tuple[str, ...]
    unknown: tuple[str, ...]


def score_from(run: Run, kind: str, file: str, name: str | None = None, of: str | None = None) -> Taken:
    """Keep the scores of a file beside the run. kind: a benchmark, `csv` or `evalscope`. name: of the scorer.

    of: which folder of the export was scored, where the output does not say. Raises Refused.
    """
    scores, unknown = read_official(run, kind, file, name, of)
    parts = [write_part(run.store, about, rows) for about, rows in scores]
    images = {row["image_id"] for _, rows in scores for row in rows if row["score"] is not None}
    names = tuple(about.scorer for about, _ in scores)
    return Taken(names, len(images), run.planned - len(images), tuple(parts), unknown)


Rows = list[dict[str, Any]]


def read_official(
    run: Run, kind: str, file: str, name: str | None = None, of: str | None = None
) -> tuple[list[tuple[About, Rows]], tuple[str, ...]]:
    """(who scored, rows for evaluate.scores) for each score in the file, and the names that no image has."""
    files = read_files([file])
    if len(files) != 1:
        raise Refused(f"{file}: is a folder. Name the scorer's output file.")
    try:
        if kind in TABLES:
            return _of_table(run, kind, files[0], name)
        return _of_benchmark(run, benchmark_named(kind), files[0], name, of)
    except WrongFile as error:
        raise Refused(f"{file}: is not an output of {kind} ({error}).") from error


def _of_benchmark(
    run: Run, benchmark: Benchmark, file: PromptFile, name: str | None, of: str | None
) -> tuple[list[tuple[About, Rows]], tuple[str, ...]]:
    if benchmark.read_scores is None:
        raise Refused(f"{benchmark.title}: has no scorer of its own. Take scores from a table: --from csv FILE")
    records = read_records(run.store, benchmark.name)
    if not records:
        raise Refused(
            f"{run.store}: was not exported for {benchmark.title}, so nobody knows which image a file shows. First: "
            f"batchgen export {run.store} FOLDER --to {benchmark.name}"
        )
    images = Images(records, of)
    rows, unknown = _tie(images, benchmark.read_scores(file.data, images.paths))
    if not rows:
        raise Refused(
            f"{file.name}: names no image of {run.store}'s exports, but {', '.join(unknown[:SHOWN]) or 'nothing'}."
        )
    about = About(
        scorer=name or benchmark.name,
        version=benchmark.scorer,
        low=benchmark.low,
        high=benchmark.high,
        source=file.name,
        settings={"benchmark": benchmark.name, "licence": benchmark.licence, "total": benchmark.total},
    )
    return [(about, rows)], unknown


def _tie(images: Images, judged: Iterator[Judged]) -> tuple[Rows, tuple[str, ...]]:
    """Raises WrongFile where an image is scored twice, and differently."""
    found: dict[str, dict[str, Any]] = {}
    unknown = []
    for one in judged:
        image_id = images.named(one.path, one.tile)
        if image_id is None:
            unknown.append(one.path)
            continue
        detail = json.dumps(one.detail, ensure_ascii=False, sort_keys=True) if one.detail else None
        error = None if one.score is not None else "the scorer gave none"
        row = {"image_id": image_id, "score": one.score, "detail": detail, "error": error}
        if found.setdefault(image_id, row)["score"] != one.score:
            raise WrongFile(f"{one.path} has two different scores")
    return list(found.values()), tuple(dict.fromkeys(unknown))


class Images:
    """Which image a path shows, by the records of a run's exports. of: a folder of them that alone was scored."""

    def __init__(self, records: Sequence[Record], of: str | None = None) -> None:
        prefix = f"{of}/" if of else ""
        self._known: dict[tuple[str, int], set[str]] = {}
        orders = set[tuple[str, ...]]()
        for record in records:
            for root in record.roots:
                start = f"{root}/" if root else ""
                inside = [one for one in record.shows if one.path.startswith(start) and one.path.startswith(prefix)]
                for one in inside:
                    for path in {one.path.removeprefix(start), one.path, f"{record.dest}/{one.path}"}:
                        self._known.setdefault((path, one.tile), set()).add(one.image_id)
                orders.add(tuple(dict.fromkeys(one.path.removeprefix(start) for one in inside)))
        if not self._known:
            roots = sorted({root for record in records for root in record.roots})
            raise Refused(f"the export has no folder {of!r} with images; its folders are {', '.join(roots)}.")
        self.paths: tuple[str, ...] = max(orders, key=len)

    def named(self, path: str, tile: int = 0) -> str | None:
        """The image that a path shows, whatever folders stand before it. Raises WrongFile where there are several."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        for start in range(len(parts)):
            whole = str(PurePosixPath(*parts[start:]))
            found = self._known.get((whole, tile))
            if found and len(found) > 1:
                raise WrongFile(f"{path} may be an image of several cells: name one with its folder, --of FOLDER")
            if found:
                return next(iter(found))
        return None


def _of_table(
    run: Run, kind: str, file: PromptFile, name: str | None
) -> tuple[list[tuple[About, Rows]], tuple[str, ...]]:
    """Each column of numbers is a score; a row names its image by image_id or by a path."""
    table = _lines(file) if file.name.endswith((".jsonl", ".json")) or kind == "evalscope" else _csv(file)
    ids = set(Results(run.store.url).to_pandas()["image_id"])
    records = read_records(run.store)
    images = Images(records) if records else None
    scores: dict[str, Rows] = {}
    unknown = []
    for row in table:
        said = _name_of(row)
        image_id = said if said in ids else images.named(said) if images else None
        image_id = image_id or (PurePosixPath(said).stem if PurePosixPath(said).stem in ids else None)
        if image_id is None:
            unknown.append(said)
            continue
        for column, score in _numbers(row).items():
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


def _name_of(row: Mapping[str, Any]) -> str:
    for column in ("image_id", *PATHS):
        if isinstance(row.get(column), str) and row[column]:
            return str(row[column])
    raise WrongFile(f"a row names no image: it has no column image_id, {', '.join(PATHS)}")


def _numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Columns that hold numbers. An empty one is unscored, which is not zero."""
    found: dict[str, float | None] = {}
    for column, value in row.items():
        if column in ("image_id", "id", "prompt", "seed", *PATHS) or isinstance(value, bool | list | dict):
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
