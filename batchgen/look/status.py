"""How far a run is, from its files alone: any machine that can read the directory can ask.

Opens the footer of every shard and no picture. Knows no Ray.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from batchgen.run import layout
from batchgen.run.directory import Run
from batchgen.run.shard import Footer, read_footer

READERS = 16
WINDOW_S = 1800.0  # speed is that of the last half hour before the newest shard


@dataclass(frozen=True, slots=True)
class Status:
    """Counts of image rows. images_per_s: null until two shards are there."""

    planned: int
    images: int
    failed: int
    shards: int
    committed_shards: int
    images_per_s: float | None
    complete: bool

    @property
    def missing(self) -> int:
        return self.planned - self.images - self.failed

    @property
    def seconds_left(self) -> float | None:
        return self.missing / self.images_per_s if self.images_per_s else None


def status(run: Run) -> Status:
    ours = {shard for plan in run.plans for shard in run.index(plan)["shard"].to_pylist()}
    committed = sorted(run.committed() & ours)
    with ThreadPoolExecutor(READERS) as pool:
        read = list(pool.map(lambda number: _footer(run, number), committed))
    footers = [footer for footer in read if footer is not None]
    skipped = sum(plan.skipped_images for plan in run.plans)
    failed = skipped + sum(len(footer.failures) for footer in footers) - run.replacements
    return Status(
        planned=run.planned,
        images=sum(footer.images for footer in footers),
        failed=max(failed, 0),  # a shard whose failures are replaced may be missing
        shards=len(ours),
        committed_shards=len(footers),
        images_per_s=_speed([(footer.finished_at, footer.images) for footer in footers]),
        complete=run.store.exists(layout.SUCCESS) and len(footers) == len(ours),
    )


def _footer(run: Run, number: int) -> Footer | None:
    """None for a file that is damaged or gone: its rows count as missing, and the doctor says why."""
    try:
        with run.store.open_file(layout.data_path(number)) as opened:
            return read_footer(opened)
    except (ValueError, OSError, pa.ArrowInvalid):
        return None


def _speed(finished: list[tuple[float, int]]) -> float | None:
    """Images per second over the last window; the first shard in it only starts the clock."""
    if not finished:
        return None
    newest = max(at for at, _ in finished)
    recent = sorted((at, images) for at, images in finished if at >= newest - WINDOW_S)
    elapsed = newest - recent[0][0]
    return sum(images for _, images in recent[1:]) / elapsed if elapsed > 0 else None
