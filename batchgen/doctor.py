"""Proves a run: every planned row once, every byte as it was written, nothing foreign, and samples render again.

Reads everything, changes nothing. Reports all that is wrong, each with its file and what to do about it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen import finalize, images, run
from batchgen import shard as shard_file
from batchgen.batches import Batches, Picture
from batchgen.errors import Infrastructure
from batchgen.models.renderer import load_renderer
from batchgen.occurrences import Occurrences
from batchgen.run import Plan, Run
from batchgen.worker import image_rows

AWAY = "Move it out of data/."
READERS = 4  # each holds one shard, at most 256 MB


@dataclass
class Report:
    """What was found. `problems` empty means: proven."""

    planned: int = 0
    images: int = 0
    failed: int = 0
    rerendered: int = 0
    finalized: bool = True
    problems: list[str] = field(default_factory=list)


def examine(found: Run) -> Report:
    """Compare every data file with its plan, down to the pixels."""
    report = Report(finalized=found.store.exists(run.SUCCESS))
    seen = Occurrences()
    expected: set[int] = set()
    complete = True
    for plan in found.plans:
        report.problems += _plan_problems(found, plan)
        try:
            shards = found.index(plan).to_pylist()
        except Infrastructure:  # already among the problems
            complete = False
            continue
        expected |= {shard["shard"] for shard in shards}
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(shards), READERS):  # a window, so that memory stays that of READERS shards
                window = shards[start : start + READERS]
                for ids, failed, problems in pool.map(partial(_examine_shard, found, plan), window):
                    twice = [image_id for image_id, n in zip(ids, seen.count(ids), strict=True) if n > 1]
                    report.problems += [f"image {image_id} is committed more than once" for image_id in twice]
                    report.images += len(ids)
                    report.failed += failed
                    report.problems += problems
        report.failed += plan.skipped_images
    report.planned = found.planned
    report.failed -= found.replacements  # what failed once and stands in a later generation
    if complete:
        report.problems += _strangers(found, expected)
    report.problems += _record_problems(found)
    if not report.problems and report.planned != report.images + report.failed:
        report.problems.append(f"{report.planned} rows planned, {report.images + report.failed} accounted for")
    return report


def _plan_problems(found: Run, plan: Plan) -> list[str]:
    problems = []
    for file in [*plan.files, plan.index, *plan.skipped, *([plan.replaced] if plan.replaced else [])]:
        path = f"{plan.directory}/{file.path}"
        try:
            damaged = run.digest(found.store.read(path)) != file.sha256
        except FileNotFoundError:
            problems.append(f"{path}: is missing; without it the run cannot be continued or proven")
            continue
        if damaged:
            problems.append(f"{path}: is not what was planned (sha256 differs)")
    return problems


def _examine_shard(found: Run, plan: Plan, shard: dict[str, Any]) -> tuple[list[str], int, list[str]]:
    """(ids of its images, number of failures, problems) of one data file."""
    path = run.data_path(shard["shard"])
    try:
        data = found.store.read(path)
        shard_file.check_seal(data)
        parquet = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        footer = shard_file.Footer.from_metadata(parquet.schema_arrow.metadata)
        table = parquet.read()
    except FileNotFoundError:
        return [], 0, [f"{path}: is missing ({shard['rows']} rows). Run the render command again."]
    except (ValueError, OSError, pa.ArrowInvalid) as error:
        return [], 0, [f"{path}: is damaged ({error}). {AWAY} Then run the render command again."]
    ids = table["image_id"].to_pylist()
    try:
        planned = found.rows(plan, shard["file"], shard["row_group"])
    except Infrastructure:  # the plan's file is at fault, and already among the problems
        return ids, len(footer.failures), []
    problems = []
    if footer.plan != plan.plan or footer.shard != shard["shard"]:
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


def _record_problems(found: Run) -> Iterator[str]:
    """What finalize wrote must be as it wrote it; running the render command again writes it anew."""
    if not found.store.exists(run.SUCCESS):
        return
    summary = finalize.success(found)
    if summary is None:
        yield f"{run.SUCCESS}: is damaged. Run the render command again."
        return
    parts = {part["path"]: part["sha256"] for part in summary["metadata"]}
    there = {entry.path for entry in found.store.list(run.METADATA)}
    for path in sorted(there - parts.keys()):
        yield f"{path}: does not belong to the metadata, and readers would see it. Move it out of {run.METADATA}/."
    for path in sorted(parts):
        if path not in there:
            yield f"{path}: is missing. Run the render command again."
        elif run.digest(found.store.read(path)) != parts[path]:
            yield f"{path}: is damaged. Delete it and run the render command again."
    if not found.store.exists(run.CARD):
        yield f"{run.CARD}: the dataset card is missing. Run the render command again."


def _strangers(found: Run, expected: set[int]) -> Iterator[str]:
    """Whatever a reader of data/ would see and no plan knows."""
    for entry in found.store.list(run.DATA):
        if run.shard_number(entry.path) not in expected:
            yield f"{entry.path}: belongs to no plan, and readers of data/ would see it. {AWAY}"


def rerender(found: Run, count: int, report: Report, seed: int = 0) -> None:
    """Render `count` committed images again from their rows alone, in batches of their shape, and compare pixels."""
    committed = found.committed()
    if not committed:
        report.problems.append("nothing is rendered yet, so nothing can be rendered again")
        return
    batches = Batches(load_renderer(found.plans[-1].model_spec()))
    shards = [shard for plan in found.plans for shard in found.index(plan).to_pylist() if shard["shard"] in committed]
    chosen = random.Random(seed)
    chosen.shuffle(shards)
    before = report.rerendered
    for number, shard in enumerate(shards):
        left = count - (report.rerendered - before)
        if left <= 0:
            break
        _compare(found, shard, batches, report, chosen, -(-left // (len(shards) - number)))


def again(found: Run, row: pa.Table, versions: dict[str, str]) -> str | None:
    """Render one stored row again on this machine; what is wrong, or nothing. versions: of who rendered it."""
    batches = Batches(load_renderer(found.plans[-1].model_spec()))
    _as_then(versions)
    return compare(row, batches)


def _compare(
    found: Run, shard: dict[str, Any], batches: Batches, report: Report, chosen: random.Random, count: int
) -> None:
    """Up to count images of a shard, each once."""
    try:
        footer, good = finalize.read_shard(found, shard["shard"])
    except Infrastructure:  # examine() has said so
        return
    _as_then(footer.constants["versions"])
    for at in chosen.sample(range(len(good)), min(count, len(good))):
        report.rerendered += 1
        if problem := compare(good.slice(at, 1), batches):
            report.problems.append(problem)


def _as_then(versions: dict[str, str]) -> None:
    """With as many threads as then: on a CPU they decide the last bits."""
    if "threads" in versions:
        from batchgen.models.device import use_threads

        use_threads(int(versions["threads"]))


def compare(row: pa.Table, batches: Batches) -> str | None:
    """Render one stored row again, alone in a batch of its shape; what is wrong, or nothing."""
    ((outcome,),) = batches.render(image_rows(row), row["batch_size"][0].as_py(), group=1)
    wanted, image_id = row["pixel_sha256"][0].as_py(), row["image_id"][0].as_py()
    if not isinstance(outcome, Picture):
        return f"image {image_id}: does not render again ({outcome.code}: {outcome.message})"
    if images.pixel_sha256(outcome.pixels) != wanted:
        return f"image {image_id}: renders to other pixels here (device {batches.renderer.device})"
    return None
