"""The actor: holds one renderer, takes shard numbers, gives back receipts. Pictures go to the store, not through Ray.

Knows no Ray API: Ray Data calls it with tables. Two calls may run at once; a lock guards the device, so one shard
renders while another is compressed, verified and stored.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.engines import load_renderer
from batchgen.engines.protocol import ImageRow
from batchgen.errors import BatchgenError, Infrastructure, RendererBroken
from batchgen.job import Output
from batchgen.render import receipt
from batchgen.render.batches import Batches, Outcome, Picture
from batchgen.render.budget import Stop
from batchgen.render.receipt import Receipt
from batchgen.run import images
from batchgen.run.attempts import Attempts, History
from batchgen.run.directory import Run, commit, owned_footer
from batchgen.run.found_model import FoundModel
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path
from batchgen.run.plans import Plan
from batchgen.run.shard_file import EncodedPicture, Failure, Footer, build
from batchgen.storage.store import Store
from batchgen.weights.spec import spec_of

BEAT_S = 60.0  # how often a marker shows the driver that a long shard makes progress
# For a shard whose file was lost: some of its failed rows now belong to a retry.
REPLACED = Failure("REPLACED", "a later generation of this run has this row")
COMPRESSION_THREADS = 2  # per renderer; PNG of 1024² takes a third of a CPU second, the image seconds of a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What an actor is told; all else stands in the plan.

    url: the run directory. plan: id of the plan. session: name of the driver's session, for markers. model: where this
    job has the weights, whose digest is the plan's; None: where the planner saw them. budgeted: whether the session has
    a budget, at whose end no shard is taken any more.
    """

    url: str
    plan: str
    session: str
    model: FoundModel | None = None
    budgeted: bool = False


class RenderShard:
    """What Ray Data makes an actor of."""

    def __init__(self, orders: Orders) -> None:
        self._began = time.monotonic()
        self._gpu = threading.Lock()
        self._pool = ThreadPoolExecutor(COMPRESSION_THREADS, thread_name_prefix="compress")
        self._active: dict[str, Attempts] = {}
        self._unfinished: set[int] = set()  # shards between the device and their commit
        self._session = orders.session
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._error: BatchgenError | None = None
        try:
            self._store = Store.open(orders.url)
            self._stop = Stop(self._store, orders.session, orders.budgeted)
            self._run, self._plan = _read_plan(self._store, orders.plan)
            self._shards = {shard.number: shard for shard in self._run.shards(self._plan)}
            self._replaced = self._run.replaced_after(self._plan)
            if not self._stop.asked():
                self._batches = Batches(load_renderer(spec_of(self._plan, orders.model)))
            self._cold_start = time.monotonic() - self._began
        except RendererBroken as error:  # leaving the process would only bring the next one here
            self._error = Infrastructure(f"The renderer cannot be started on {socket.gethostname()}: {error}")
        except BatchgenError as error:
            self._error = error  # said in the first receipt: an error here would reach the driver as a dead actor
        self._mark_when_preempted()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Numbers of shards, in a column `shard` → a receipt for each."""
        receipts = [self._receipt(number) for number in batch["shard"].to_pylist()]
        for one in receipts:
            one.renderer, one.renderer_seconds = self._name, time.monotonic() - self._began
        return receipt.to_table(receipts)

    def _receipt(self, number: int) -> Receipt:
        try:
            if self._error is not None:
                raise self._error
            return self._work(self._shards[number])
        except RendererBroken as error:
            # A broken CUDA context breaks every later call in this process, and Ray would retry in the same one.
            print(f"shard {number}: leaving the process: {error}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)
        except BatchgenError as error:
            return Receipt.broken(number, error)
        finally:
            self._unfinished.discard(number)

    def _work(self, shard: ShardRef) -> Receipt:
        if self._stop.asked():
            return self._given_back(shard)
        if self._store.exists(data_path(shard.number)):
            return self._existing(shard)
        rows = self._run.rows(self._plan, shard)
        todo = [row for row in image_rows(rows) if row.image_id not in self._replaced]
        attempt_id = uuid.uuid4().hex
        marker = Attempts(self._store, shard.number, self._session, attempt_id)
        history = marker.history()
        with self._gpu:
            self._unfinished.add(shard.number)  # before it looks: whoever sees the sign after it sees this too
            if self._stop.asked():  # put up while this shard waited for the device
                return self._given_back(shard)
            pending = self._render(todo, rows["batch_size"][0].as_py(), marker, history)
        done = {row.image_id: item for row, item in zip(todo, pending, strict=True)}
        pending = [done.get(image_id, REPLACED) for image_id in rows["image_id"].to_pylist()]
        outcomes = [item.result() if isinstance(item, Future) else item for item in pending]
        footer = self._footer(shard.number, attempt_id, history.attempts + 1, rows, outcomes)
        pictures = [item if isinstance(item, EncodedPicture) else None for item in outcomes]
        commit(self._store, build(rows, pictures, footer), footer)
        suspect = sum(item is not None and item.values["suspect"] is not None for item in pictures)
        return Receipt.done(shard.number, footer.images, len(footer.failures), suspect)

    def _given_back(self, shard: ShardRef) -> Receipt:
        return Receipt.given_back(shard.number, len(self._unfinished - {shard.number}))

    def _existing(self, shard: ShardRef) -> Receipt:
        """Another driver or an earlier attempt was faster: no device time for it."""
        footer = owned_footer(self._store, shard.number, self._plan.plan)
        return Receipt.done(shard.number, footer.images, len(footer.failures))

    def _render(
        self, todo: list[ImageRow], planned: int, marker: Attempts, history: History
    ) -> list[Future[EncodedPicture] | Failure]:
        """Outcomes in order of rows; pictures are being compressed while the device goes on."""
        pending: list[Future[EncodedPicture] | Failure] = []
        self._active[marker.attempt_id] = marker
        died = False
        try:
            if history.isolate:
                for row in todo:
                    pending += self._alone(row, planned, marker, history)
            else:
                marker.begin()
                beat = time.monotonic()
                for outcomes in self._batches.render(todo, planned):
                    if time.monotonic() - beat > BEAT_S:
                        beat = time.monotonic()
                        self._pool.submit(marker.begin)
                    pending += [
                        self._finish_later(todo[len(pending) + i], outcome, planned, history)
                        for i, outcome in enumerate(outcomes)
                    ]
        except RendererBroken:
            died = True
            raise
        finally:
            del self._active[marker.attempt_id]
            if not died:
                marker.end()
        return pending

    def _alone(
        self, row: ImageRow, planned: int, marker: Attempts, history: History
    ) -> list[Future[EncodedPicture] | Failure]:
        """Render a row of a shard that killed workers: alone in a batch, in the planned shape."""
        if history.fatal(row.image_id):
            return [
                Failure("KILLS_WORKER", f"the process died {history.row_deaths[row.image_id]} times at this row alone")
            ]
        marker.begin(row.image_id)
        (outcomes,) = self._batches.render([row], planned)
        return [self._finish_later(row, outcome, planned, history) for outcome in outcomes]

    def _finish_later(
        self, row: ImageRow, outcome: Outcome, planned: int, history: History
    ) -> Future[EncodedPicture] | Failure:
        if isinstance(outcome, Failure):
            return outcome
        return self._pool.submit(
            finish, row, outcome, planned=planned, attempt=history.attempts + 1, output=self._plan.job.output
        )

    def _footer(
        self, shard: int, attempt_id: str, attempt: int, rows: pa.Table, outcomes: list[EncodedPicture | Failure]
    ) -> Footer:
        renderer = self._batches.renderer
        ids = rows["image_id"].to_pylist()
        failures = {ids[i]: outcome for i, outcome in enumerate(outcomes) if isinstance(outcome, Failure)}
        constants = self._plan.constants() | {
            "device": renderer.device,
            "versions": renderer.versions,
            "sigmas": renderer.sigmas(rows["num_inference_steps"][0].as_py()),
            "peak_memory_bytes": renderer.peak_memory(),
            "cold_start_seconds": round(self._cold_start, 3),
        }
        return Footer(
            shard=shard,
            plan=self._plan.plan,
            attempt_id=attempt_id,
            attempt=attempt,
            finished_at=time.time(),
            images=len(ids) - len(failures),
            failures=failures,
            constants=constants,
        )

    def _mark_when_preempted(self) -> None:
        """On SIGTERM, say in the markers that the machine was taken away, then end as one would have without us."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)

        def preempted(number: int, frame: Any) -> None:
            for marker in list(self._active.values()):
                marker.preempt()
            if callable(before):
                before(number, frame)
            else:
                os._exit(128 + number)

        signal.signal(signal.SIGTERM, preempted)


def _read_plan(store: Store, plan: str) -> tuple[Run, Plan]:
    run = Run.find(store)
    for candidate in run.plans if run else ():
        if run and candidate.plan == plan:
            return run, candidate
    raise Infrastructure(
        f"{store}: the node {socket.gethostname()} does not see the plan there. Use a path that all nodes share, or S3."
    )


def image_rows(rows: pa.Table) -> list[ImageRow]:
    """Plan rows as a renderer takes them."""
    names = [name for name in ImageRow.__dataclass_fields__ if name in rows.column_names]
    return [
        ImageRow(**{**row, "negative_prompt": row["negative_prompt"] or ""}) for row in rows.select(names).to_pylist()
    ]


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
