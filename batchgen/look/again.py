"""Renders stored images once more from their rows alone, and compares pixels.

Knows rows of data files and a renderer; plans nothing and stores nothing.
"""

from __future__ import annotations

import random

import pyarrow as pa

from batchgen.engines import load_renderer
from batchgen.errors import Infrastructure
from batchgen.job import Job
from batchgen.look.doctor import Report
from batchgen.rendering.attempt import image_rows
from batchgen.rendering.batches import Batches, Picture
from batchgen.run import images
from batchgen.run.directory import Run, read_shard
from batchgen.run.index import ShardRef
from batchgen.weights.spec import spec_of


def rerender(run: Run, count: int, report: Report, seed: int = 0) -> None:
    """Render `count` committed images again from their rows alone, in batches of their shape, and compare pixels.

    Raises Refused where they were made elsewhere.
    """
    run.refuse_adopted("rendered again")
    committed = run.committed()
    if not committed:
        report.problems.append("nothing is rendered yet, so nothing can be rendered again")
        return
    batches = Batches(load_renderer(spec_of(run.plans[-1])))
    shards = [shard for plan in run.plans for shard in run.shards(plan) if shard.number in committed]
    chosen = random.Random(seed)
    chosen.shuffle(shards)
    before = report.rerendered
    for number, shard in enumerate(shards):
        left = count - (report.rerendered - before)
        if left <= 0:
            break
        _compare(run, shard, batches, report, chosen, -(-left // (len(shards) - number)))


def render_again(run: Run, row: pa.Table, versions: dict[str, str]) -> str | None:
    """Render one stored row again on this machine. Returns what is wrong, or None. versions: as it was rendered.

    Raises Refused where it was made elsewhere.
    """
    run.refuse_adopted("rendered again")
    batches = Batches(load_renderer(spec_of(run.plans[-1])))
    _as_then(versions)
    return compare(row, batches, run.plans[-1].job)


def _compare(run: Run, shard: ShardRef, batches: Batches, report: Report, chosen: random.Random, count: int) -> None:
    """Up to count images of a shard, each once."""
    try:
        footer, good = read_shard(run, shard.number)
    except Infrastructure:  # examine() has reported it
        return
    _as_then(footer.constants["versions"])
    for at in chosen.sample(range(len(good)), min(count, len(good))):
        report.rerendered += 1
        if problem := compare(good.slice(at, 1), batches, run.plans[-1].job):
            report.problems.append(problem)


def _as_then(versions: dict[str, str]) -> None:
    """Use as many threads as the first time: on a CPU their number changes the last bits."""
    if "threads" in versions:
        from batchgen.engines.device import use_threads

        use_threads(int(versions["threads"]))


def compare(row: pa.Table, batches: Batches, job: Job) -> str | None:
    """Render one stored row again, alone in a batch of its shape. Returns what is wrong, or None."""
    ((outcome,),) = batches.render(image_rows(row, job), row["batch_size"][0].as_py(), group=1)
    wanted, image_id = row["pixel_sha256"][0].as_py(), row["image_id"][0].as_py()
    if not isinstance(outcome, Picture):
        return f"image {image_id}: does not render again ({outcome.code}: {outcome.message})"
    if images.pixel_sha256(outcome.pixels) != wanted:
        return f"image {image_id}: renders to other pixels here (device {batches.renderer.device})"
    return None
