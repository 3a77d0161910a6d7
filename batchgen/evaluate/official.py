"""Scores that others made → rows of OUT/scores/: a benchmark's own scorer, evalscope, or any table.

A scorer names files; which image a file shows, the records of the run's exports say. The outputs of benchmarks are read
by their own files. Knows neither a score's meaning nor how it is shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.errors import Refused
from batchgen.evaluate.asked import asked_of_all
from batchgen.evaluate.benchmark import Benchmark, Judged
from batchgen.evaluate.benchmarks import benchmark_named
from batchgen.evaluate.exported import read_records
from batchgen.evaluate.image_names import Images
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, read_files, the_only
from batchgen.evaluate.score_tables import Rows, read_table
from batchgen.evaluate.scores import About, write_part
from batchgen.look.results import Results
from batchgen.run.directory import Run

TABLES = ("csv", "evalscope")
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Taken:
    """scored, unscored: images of the run. parts: paths of what was written below the run. unknown: names in the
    scorer's output that are no image of the run. reasons: of the images without a score, scorer → why → how many."""

    scorers: tuple[str, ...]
    scored: int
    unscored: int
    parts: tuple[str, ...]
    unknown: tuple[str, ...]
    reasons: dict[str, Counter[str]]


def score_from(run: Run, kind: str, file: str, name: str | None = None, of: str | None = None) -> Taken:
    """Keep the scores of a file beside the run. kind: a benchmark, `csv` or `evalscope`. name: of the scorer.

    of: which folder of the export was scored, where the output does not say. Raises Refused.
    """
    scores, unknown = read_official(run, kind, file, name, of)
    parts = [write_part(run.store, about, rows) for about, rows in scores]
    images = {row["image_id"] for _, rows in scores for row in rows if row["score"] is not None}
    names = tuple(about.scorer for about, _ in scores)
    reasons = {about.scorer: Counter(row["error"] for row in rows if row["error"]) for about, rows in scores}
    return Taken(names, len(images), run.planned - len(images), tuple(parts), unknown, reasons)


def read_official(
    run: Run, kind: str, file: str, name: str | None = None, of: str | None = None
) -> tuple[list[tuple[About, Rows]], tuple[str, ...]]:
    """(who scored, rows for evaluate.scores) for each score in the file or folder, and the names that no image has."""
    files = read_files([file])
    try:
        if kind in TABLES:
            return read_table(run, kind, the_only(files), name)
        return _of_benchmark(run, benchmark_named(kind), files, name, of)
    except WrongFile as error:
        raise Refused(f"{file}: is not an output of {kind} ({error}).") from error


def _of_benchmark(
    run: Run, benchmark: Benchmark, files: Sequence[PromptFile], name: str | None, of: str | None
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
    judged: dict[str, list[Judged]] = {}
    for file in files:
        for one in benchmark.read_scores(file, images.paths):
            judged.setdefault(one.metric, []).append(one)
    prompts = _prompts(run)
    tied = {metric: _tie(images, scores, prompts) for metric, scores in judged.items()}
    unknown = tuple(dict.fromkeys(path for _, paths in tied.values() for path in paths))
    source = ", ".join(file.name for file in files[:SHOWN]) + (", ..." if len(files) > SHOWN else "")
    if not any(rows for rows, _ in tied.values()):
        raise Refused(
            f"{source}: names no image of {run.store}'s exports, but {', '.join(unknown[:SHOWN]) or 'nothing'}."
        )
    return [
        (_about(benchmark, f"{name or benchmark.name}-{metric}".rstrip("-"), source), rows)
        for metric, (rows, _) in tied.items()
        if rows
    ], unknown


def _about(benchmark: Benchmark, scorer: str, source: str) -> About:
    return About(
        scorer=scorer,
        version=benchmark.scorer,
        low=benchmark.low,
        high=benchmark.high,
        source=source,
        settings={"benchmark": benchmark.name, "licence": benchmark.licence, "total": benchmark.total},
    )


def _prompts(run: Run) -> dict[str, str]:
    """image_id → the benchmark's own prompt of it."""
    rows = Results(run.store.url).to_pandas()
    return dict(zip(rows["image_id"], asked_of_all(rows), strict=True))


def _tie(images: Images, judged: Sequence[Judged], prompts: Mapping[str, str]) -> tuple[Rows, tuple[str, ...]]:
    """prompts: of each image. Raises WrongFile where scores of an image differ, or its prompt does."""
    found: dict[str, dict[str, Any]] = {}
    unknown = []
    for one in judged:
        image_id = images.named(one.path, one.tile)
        if image_id is None:
            unknown.append(one.path)
            continue
        if one.prompt is not None and one.prompt != prompts[image_id]:
            raise WrongFile(
                f"{one.path} was judged by the prompt {one.prompt!r}, and the image that the export has there is of "
                f"{prompts[image_id]!r}: these are scores of another folder"
            )
        detail = json.dumps(one.detail, ensure_ascii=False, sort_keys=True) if one.detail else None
        error = None if one.score is not None else "the scorer gave none"
        row = {"image_id": image_id, "score": one.score, "detail": detail, "error": error}
        if found.setdefault(image_id, row)["score"] != one.score:
            raise WrongFile(f"{one.path} has two different scores")
    return list(found.values()), tuple(dict.fromkeys(unknown))
