"""One attempt at one shard: what of it is known already, the rows that are left, and the file that comes of them.

Knows a renderer's batches, the shard's rows and what others made of them. Which shard comes next, and whether this
renderer is fit for it, the worker says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from batchgen.columns import PLANNED
from batchgen.engines.protocol import ImageRow
from batchgen.job import Job, Output
from batchgen.job.sweep import from_columns
from batchgen.rendering.batches import Batches, Outcome, Picture
from batchgen.run import images
from batchgen.run.attempts import Attempts
from batchgen.run.doubts import DEVICE, PROCESS, Doubt
from batchgen.run.history import History
from batchgen.run.index import ShardRef
from batchgen.run.plans import Plan
from batchgen.run.shard_file import EncodedPicture, Failure, Footer, build

BEAT_S = 60.0  # how often a marker shows the driver that a long shard makes progress
# For a shard whose file was lost: some of its failed rows now belong to a retry.
REPLACED = Failure("REPLACED", "a later generation of this run has this row")

Pending = dict[str, EncodedPicture | Future[EncodedPicture] | Failure]  # by image_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """Who renders. only_device: there is no other that could be asked for its opinion."""

    batches: Batches
    pool: ThreadPoolExecutor
    cold_start: float
    device: str
    process: str
    only_device: bool


@dataclass(slots=True, kw_only=True)
class Attempt:
    """replaced: rows that a later generation has. doubts: what others made of this shard.

    `render` is the device thread's; it may wait for no store. All else may be called from any other thread.
    """

    renderer: Renderer
    plan: Plan
    shard: ShardRef
    rows: pa.Table
    replaced: frozenset[str]
    marker: Attempts
    history: History
    doubts: list[Doubt]
    constants: dict[str, Any] = field(default_factory=dict)  # what is the same for all pictures; known by the device

    @property
    def number(self) -> int:
        """1 for the first attempt at this shard."""
        return self.history.attempts + len(self.doubts) + 1

    def render(self) -> Pending:
        """Outcomes of the shard's rows; pictures are being compressed while the device goes on."""
        device = self.renderer.batches.renderer
        rows = image_rows(self.rows, self.plan.job)
        self.constants = self.plan.constants() | {
            "device": device.device,
            "versions": device.versions,
            "sigmas": device.sigmas(rows[0]),
            "cold_start_seconds": round(self.renderer.cold_start, 3),
        }
        pending: Pending = {}
        for doubt in self.doubts:  # what another device of the same kind has made already
            pending |= doubt.pictures(self.constants)
        left = [row for row in rows if row.image_id not in self.replaced and row.image_id not in pending]
        self._render_all(left, pending)
        self.constants["sigmas"] = device.sigmas(rows[0])  # a pipeline of diffusers knows them after a call, not before
        self.constants["peak_memory_bytes"] = device.peak_memory()
        if device.compile_seconds is not None:
            self.constants["compile_seconds"] = round(device.compile_seconds, 3)
        return pending

    def _render_all(self, rows: list[ImageRow], pending: Pending) -> None:
        """Those that may have ended processes first, alone; then the others together."""
        only, deaths = self.renderer.only_device, self.history.row_deaths()
        for row in rows:
            if self.history.fatal(row.image_id, only):
                died = deaths[row.image_id]
                pending[row.image_id] = Failure("KILLS_WORKER", f"the process died {died} times at this row alone")
        by_id = {row.image_id: row for row in rows if row.image_id not in pending}
        alone = self.history.alone(list(by_id))
        for image_id in alone:
            self.marker.begin(image_id)
            self._render([by_id[image_id]], pending)
            self.marker.survived(image_id)
        if together := [row for image_id, row in by_id.items() if image_id not in set(alone)]:
            self.marker.begin()
            self._render(together, pending)

    def _render(self, rows: list[ImageRow], pending: Pending) -> None:
        """In the planned shape, also where it is a single row."""
        planned, beat, done = self.shard.batch_size, time.monotonic(), 0
        for outcomes in self.renderer.batches.render(rows, planned):
            if time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                self.marker.beat()
            for row, outcome in zip(rows[done:], outcomes, strict=False):
                pending[row.image_id] = self._finish_later(row, outcome, planned)
            done += len(outcomes)

    def _finish_later(self, row: ImageRow, outcome: Outcome, planned: int) -> Future[EncodedPicture] | Failure:
        if isinstance(outcome, Failure):
            return outcome
        output = self.plan.job.output
        return self.renderer.pool.submit(finish, row, outcome, planned=planned, attempt=self.number, output=output)

    def outcomes(self, pending: Pending) -> list[EncodedPicture | Failure]:
        """One for each row of the shard, in order. Waits for what is being compressed."""
        found = [pending.get(image_id, REPLACED) for image_id in self.rows["image_id"].to_pylist()]
        return [one.result() if isinstance(one, Future) else one for one in found]

    def unsure(self, outcomes: Sequence[EncodedPicture | Failure]) -> list[str]:
        """The rows whose failure nobody else has seen: it may be this device that is sick."""
        ids = self.rows["image_id"].to_pylist()
        failed = [
            image_id
            for image_id, one in zip(ids, outcomes, strict=True)
            if isinstance(one, Failure) and one is not REPLACED and one.code != "KILLS_WORKER"  # seen already
        ]
        return [image_id for image_id in failed if not self._was_seen_elsewhere(image_id)]

    def _was_seen_elsewhere(self, image_id: str) -> bool:
        mine = self.renderer
        seen = [doubt for doubt in self.doubts if image_id in doubt.failures]
        if mine.only_device:
            return any(doubt.process != mine.process for doubt in seen)
        return any(doubt.device != mine.device for doubt in seen)

    def file(self, outcomes: Sequence[EncodedPicture | Failure], doubtful: bool = False) -> tuple[bytes, Footer]:
        """The shard as a file, and its footer. doubtful: it says whose opinion it is."""
        ids = self.rows["image_id"].to_pylist()
        failures = {image_id: one for image_id, one in zip(ids, outcomes, strict=True) if isinstance(one, Failure)}
        mine = {DEVICE: self.renderer.device, PROCESS: self.renderer.process} if doubtful else {}
        footer = Footer(
            shard=self.shard.number,
            plan=self.plan.plan,
            attempt_id=self.marker.attempt_id,
            attempt=self.number,
            finished_at=time.time(),
            images=len(ids) - len(failures),
            failures=failures,
            constants=self.constants | mine,
        )
        pictures = [one if isinstance(one, EncodedPicture) else None for one in outcomes]
        return build(self.rows, pictures, footer), footer


def image_rows(rows: pa.Table, job: Job) -> list[ImageRow]:
    """Plan rows as a renderer takes them, with what their columns say of the loop where the job sweeps it."""
    names = [
        field.name
        for field in PLANNED
        if field.name in ImageRow.__dataclass_fields__ and field.name in rows.column_names
    ]
    swept, found = job.sweep.columns, []
    for row in rows.select([*names, *swept]).to_pylist():
        said = {name: row[name] for name in names} | {"negative_prompt": row["negative_prompt"] or ""}
        if swept:
            here = job.in_cell(from_columns(row, swept))
            said |= {"sampling": here.sampling, "refine": here.refine is not None}
        found.append(ImageRow(**said))
    return found


def finish(row: ImageRow, picture: Picture, *, planned: int, attempt: int, output: Output) -> EncodedPicture:
    """Compress and examine one picture: CPU work, off the device's path. planned: the batch size of its plan."""
    pixels = picture.pixels
    values = {
        "batch_size": picture.batch_size,
        "planned_batch_size": planned,
        "image_height": pixels.shape[0],
        "image_width": pixels.shape[1],
        "suspect": images.suspect(pixels),
        "pixel_sha256": images.pixel_sha256(pixels),
        "phash": images.phash(pixels),
        "render_seconds": picture.seconds,
        "attempt": attempt,
    }
    data = images.encode(pixels, output.image_format, output.image_quality)
    return EncodedPicture(data, f"{row.image_id}.{images.FORMATS[output.image_format].extension}", values)
