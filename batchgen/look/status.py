"""How far a run is, from its files alone: any machine that can read the directory can ask.

Opens the footer of every shard and no picture, and believes that a run is complete if its books prove it. Knows no Ray.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from batchgen.finalize.proof import proven
from batchgen.look.alike import Alike, alike_of
from batchgen.run.damage import DAMAGED
from batchgen.run.directory import Run, read_shards
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path
from batchgen.run.plans import Plan
from batchgen.run.shard_file import Footer, read_footer

WINDOW_S = 1800.0  # speed is that of the last half hour before the newest shard


@dataclass(frozen=True, slots=True)
class Status:
    """Counts of image rows. images_per_s: null until two shards are there.

    compile_seconds: that the kernels of a renderer took to compile, the most of any; null where none were compiled.
    alike: near-identical and flat pictures of each cell; null where they were not looked for.
    """

    planned: int
    images: int
    failed: int
    shards: int
    committed_shards: int
    images_per_s: float | None
    complete: bool
    compile_seconds: float | None = None
    alike: list[Alike] | None = None

    @property
    def missing(self) -> int:
        return self.planned - self.images - self.failed

    @property
    def seconds_left(self) -> float | None:
        return self.missing / self.images_per_s if self.images_per_s else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, for `status --json`."""
        return asdict(self) | {"missing": self.missing, "seconds_left": self.seconds_left}


def full_status(run: Run) -> Status:
    """With pictures that are alike, of a run that is complete: of one that is not, status is asked often."""
    status = status_of(run)
    return replace(status, alike=alike_of(run)) if status.complete else status


def status_of(run: Run) -> Status:
    committed, footers, shards = run.committed(), list[Footer](), 0
    for plan in run.plans:
        shards += len(run.shards(plan))
        there = [shard for shard in run.shards(plan) if shard.number in committed]
        read = partial(_footer, run, plan)
        footers += [footer for footer in read_shards(there, read) if footer is not None]
    skipped = sum(plan.skipped_images for plan in run.plans)
    failed = skipped + sum(len(footer.failures) for footer in footers) - run.replacements
    images, failed = (
        sum(footer.images for footer in footers),
        max(failed, 0),
    )  # a replaced failure's shard may be missing
    totals = proven(run) if len(footers) == shards else None
    return Status(
        planned=run.planned,
        images=images,
        failed=failed,
        shards=shards,
        committed_shards=len(footers),
        images_per_s=_speed([(footer.finished_at, footer.images) for footer in footers]),
        complete=totals is not None and (totals.images, totals.failed) == (images, failed),
        compile_seconds=_compile_seconds(footers),
    )


def _footer(run: Run, plan: Plan, shard: ShardRef) -> Footer | None:
    """The footer, or None if the file is damaged, gone or another's: its rows count as missing; the doctor says why."""
    try:
        with run.store.open_file(data_path(shard.number)) as opened:
            footer = read_footer(opened)
    except DAMAGED:
        return None
    mine = footer.plan == plan.plan and footer.shard == shard.number
    return footer if mine and footer.images + len(footer.failures) == shard.rows else None


def _compile_seconds(footers: list[Footer]) -> float | None:
    said = [footer.constants.get("compile_seconds") for footer in footers]
    return max((seconds for seconds in said if isinstance(seconds, int | float)), default=None)


def _speed(finished: list[tuple[float, int]]) -> float | None:
    """Images per second over the last window; the first shard in it only starts the clock."""
    if not finished:
        return None
    newest = max(at for at, _ in finished)
    recent = sorted((at, images) for at, images in finished if at >= newest - WINDOW_S)
    elapsed = newest - recent[0][0]
    return sum(images for _, images in recent[1:]) / elapsed if elapsed > 0 else None
