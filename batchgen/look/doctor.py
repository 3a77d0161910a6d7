"""Proves a run: every planned row once, every byte as it was written, nothing foreign, and samples render again.

Reads everything, changes nothing. Reports all that is wrong, each with its file and what to do about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import Infrastructure
from batchgen.finalize.proof import success
from batchgen.plan.occurrences import Occurrences
from batchgen.run import images
from batchgen.run.directory import Run, read_shards
from batchgen.run.index import ShardRef
from batchgen.run.layout import CARD, DATA, METADATA, SUCCESS, data_path, shard_number
from batchgen.run.plans import Plan, digest
from batchgen.run.shard_file import DAMAGED, Footer, check_seal

AWAY = "Move it out of data/."
READERS = 4  # each holds one shard, at most 256 MB


@dataclass
class Report:
    """What the doctor saw. The run is proven if `problems` is empty."""

    planned: int = 0
    images: int = 0
    failed: int = 0
    rerendered: int = 0
    finalized: bool = True
    problems: list[str] = field(default_factory=list)


def examine(run: Run) -> Report:
    """Compare every data file with its plan, down to the pixels."""
    report = Report(finalized=run.store.exists(SUCCESS))
    seen = Occurrences()
    expected: set[int] = set()
    complete = True
    for plan in run.plans:
        report.problems += _plan_problems(run, plan)
        try:
            shards = run.shards(plan)
        except Infrastructure:  # already among the problems
            complete = False
            continue
        expected |= {shard.number for shard in shards}
        for ids, failed, problems in read_shards(shards, partial(_examine_shard, run, plan), READERS):
            twice = [image_id for image_id, n in zip(ids, seen.count(ids), strict=True) if n > 1]
            report.problems += [f"image {image_id} is committed more than once" for image_id in twice]
            report.images += len(ids)
            report.failed += failed
            report.problems += problems
        report.failed += plan.skipped_images
    report.planned = run.planned
    report.failed -= run.replacements  # rows that failed once and were planned again later
    if complete:
        report.problems += _strangers(run, expected)
    report.problems += _record_problems(run)
    if not report.problems and report.planned != report.images + report.failed:
        report.problems.append(f"{report.planned} rows planned, {report.images + report.failed} accounted for")
    return report


def _plan_problems(run: Run, plan: Plan) -> list[str]:
    problems = []
    for file in [*plan.files, plan.index, *plan.skipped, *([plan.replaced] if plan.replaced else [])]:
        path = f"{plan.directory}/{file.path}"
        try:
            damaged = digest(run.store.read(path)) != file.sha256
        except FileNotFoundError:
            problems.append(f"{path}: is missing; without it the run cannot be continued or proven")
            continue
        if damaged:
            problems.append(f"{path}: is not what was planned (sha256 differs)")
    return problems


def _examine_shard(run: Run, plan: Plan, shard: ShardRef) -> tuple[list[str], int, list[str]]:
    """(ids of its images, number of failures, problems) of one data file."""
    path = data_path(shard.number)
    try:
        data = run.store.read(path)
        check_seal(data)
        parquet = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        footer = Footer.from_metadata(parquet.schema_arrow.metadata)
        table = parquet.read()
    except FileNotFoundError:
        return [], 0, [f"{path}: is missing ({shard.rows} rows). Run the render command again."]
    except DAMAGED as error:
        return [], 0, [f"{path}: is damaged ({error}). {AWAY} Then run the render command again."]
    ids = table["image_id"].to_pylist()
    try:
        planned = run.rows(plan, shard)
    except Infrastructure:  # the plan's file is at fault, and already among the problems
        return ids, len(footer.failures), []
    problems = []
    if footer.plan != plan.plan or footer.shard != shard.number:
        problems.append(f"{path}: is shard {footer.shard} of plan {footer.plan}. {AWAY} Then render again.")
    elif Counter([*ids, *footer.failures]) != Counter(planned["image_id"].to_pylist()):
        problems.append(f"{path}: does not hold exactly the rows of its plan. {AWAY} Then render again.")
    problems += [f"{path}: {problem}" for problem in _picture_problems(table)]
    return ids, len(footer.failures), problems


def _picture_problems(table: pa.Table) -> Iterator[str]:
    """Decode every picture. Pixels of lossless formats must have the digest of the row, all must have its size."""
    for row in table.select(["image", "image_id", "image_height", "image_width", "pixel_sha256"]).to_pylist():
        try:
            pixels = images.decode(row["image"]["bytes"])
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises on broken files
            yield f"image {row['image_id']} cannot be decoded ({error})"
            continue
        lossless = row["image"]["path"].endswith(".png")
        if pixels.shape != (row["image_height"], row["image_width"], 3):
            yield f"image {row['image_id']} is {pixels.shape[1]}x{pixels.shape[0]}, its row says otherwise"
        elif lossless and images.pixel_sha256(pixels) != row["pixel_sha256"]:
            yield f"image {row['image_id']} has other pixels than were rendered"


def _record_problems(run: Run) -> Iterator[str]:
    """What finalize wrote must be as it wrote it; running the render command again writes it anew."""
    if not run.store.exists(SUCCESS):
        return
    summary = success(run)
    if summary is None:
        yield f"{SUCCESS}: is damaged. Run the render command again."
        return
    parts = {part["path"]: part["sha256"] for part in summary["metadata"]}
    there = {entry.path for entry in run.store.list(METADATA)}
    for path in sorted(there - parts.keys()):
        yield f"{path}: does not belong to the metadata, and readers would see it. Move it out of {METADATA}/."
    for path in sorted(parts):
        if path not in there:
            yield f"{path}: is missing. Run the render command again."
        elif digest(run.store.read(path)) != parts[path]:
            yield f"{path}: is damaged. Delete it and run the render command again."
    if not run.store.exists(CARD):
        yield f"{CARD}: the dataset card is missing. Run the render command again."


def _strangers(run: Run, expected: set[int]) -> Iterator[str]:
    """Files that a reader of data/ would see and that belong to no plan."""
    for entry in run.store.list(DATA):
        if shard_number(entry.path) not in expected:
            yield f"{entry.path}: belongs to no plan, and readers of data/ would see it. {AWAY}"
