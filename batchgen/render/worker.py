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
from typing import Any

import pyarrow as pa

from batchgen import schema
from batchgen.engines import load_renderer
from batchgen.engines.protocol import ImageRow
from batchgen.errors import BatchgenError, Infrastructure, RendererBroken
from batchgen.render.batches import Batches, Outcome, Picture
from batchgen.render.budget import Stop
from batchgen.run import images, layout, plans
from batchgen.run.attempts import Attempts, History
from batchgen.run.directory import Run, commit, owned_footer
from batchgen.run.shard import Failure, Finished, Footer, build
from batchgen.storage.store import Store
from batchgen.weights.spec import spec_of

BEAT_S = 60.0  # how often a marker shows the driver that a long shard makes progress
# Only where a shard is rendered again, its file being lost, after its failed rows were planned anew.
REPLACED = Failure("REPLACED", "a later generation of this run has this row")
COMPRESSION_THREADS = 2  # per renderer; PNG of 1024² takes a third of a CPU second, the image seconds of a GPU


class RenderShard:
    """What Ray Data makes an actor of.

    url: the run directory. plan: id of the plan. model: where this job has the weights, whose digest is the plan's, as
    Prepared.model_spec says it; None: where the planner saw them. image_format, quality: how pictures are stored.
    session: name of the driver's session, for markers. budgeted: whether the session has a budget, at whose end no
    shard is taken any more.
    """

    def __init__(
        self,
        url: str,
        plan: str,
        model: dict[str, Any] | None,
        image_format: str,
        session: str,
        quality: int | None = None,
        budgeted: bool = False,
    ) -> None:
        self._began = time.monotonic()
        self._gpu = threading.Lock()
        self._pool = ThreadPoolExecutor(COMPRESSION_THREADS, thread_name_prefix="compress")
        self._active: dict[str, Attempts] = {}
        self._unfinished: set[int] = set()  # shards between the device and their commit
        self._format, self._quality, self._session = image_format, quality, session
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._error: BatchgenError | None = None
        try:
            self._store = Store.open(url)
            self._stop = Stop(self._store, session, budgeted)
            self._run, self._plan = _read_plan(self._store, plan)
            self._replaced = self._run.replaced_after(self._plan)
            if not self._stop.asked():
                self._batches = Batches(load_renderer(spec_of(self._plan, model)))
            self._cold_start = time.monotonic() - self._began
        except RendererBroken as error:  # leaving the process would only bring the next one here
            self._error = Infrastructure(f"The renderer cannot be started on {socket.gethostname()}: {error}")
        except BatchgenError as error:
            self._error = error  # said in the first receipt: an error here would reach the driver as a dead actor
        self._mark_when_preempted()

    def __call__(self, batch: pa.Table) -> pa.Table:
        receipts = [self._receipt(item["shard"], item["file"], item["row_group"]) for item in batch.to_pylist()]
        for receipt in receipts:
            receipt |= {"renderer": self._name, "renderer_seconds": time.monotonic() - self._began}
        return pa.Table.from_pylist(receipts, schema=schema.RECEIPT)

    def _receipt(self, shard: int, file: str, row_group: int) -> dict[str, Any]:
        try:
            if self._error is not None:
                raise self._error
            return self._work(shard, file, row_group)
        except RendererBroken as error:
            # A broken CUDA context breaks every later call in this process, and Ray would retry in the same one.
            print(f"shard {shard}: leaving the process: {error}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)
        except BatchgenError as error:
            return {"shard": shard, "error": str(error), "exit_code": error.exit_code}
        finally:
            self._unfinished.discard(shard)

    def _work(self, shard: int, file: str, row_group: int) -> dict[str, Any]:
        if self._stop.asked():
            return self._given_back(shard)
        if self._store.exists(layout.data_path(shard)):
            return self._existing(shard)
        rows = self._run.rows(self._plan, file, row_group)
        todo = [row for row in image_rows(rows) if row.image_id not in self._replaced]
        attempt_id = uuid.uuid4().hex
        marker = Attempts(self._store, shard, self._session, attempt_id)
        history = marker.history()
        with self._gpu:
            self._unfinished.add(shard)  # before it looks: whoever sees the sign after it sees this too
            if self._stop.asked():  # put up while this shard waited for the device
                return self._given_back(shard)
            pending = self._render(todo, rows["batch_size"][0].as_py(), marker, history)
        done = {row.image_id: item for row, item in zip(todo, pending, strict=True)}
        pending = [done.get(image_id, REPLACED) for image_id in rows["image_id"].to_pylist()]
        outcomes = [item.result() if isinstance(item, Future) else item for item in pending]
        footer = self._footer(shard, attempt_id, history.attempts + 1, rows, outcomes)
        finished = [item if isinstance(item, Finished) else None for item in outcomes]
        data = build(rows, finished, footer)
        commit(self._store, data, footer)
        facts = [item.facts for item in finished if item is not None]
        return {
            "shard": shard,
            "images": footer.images,
            "failed": len(footer.failures),
            "suspect": sum(fact["suspect"] is not None for fact in facts),
        }

    def _given_back(self, shard: int) -> dict[str, Any]:
        return {"shard": shard, "unfinished": len(self._unfinished - {shard})}

    def _existing(self, shard: int) -> dict[str, Any]:
        """Another driver or an earlier attempt was faster: no device time for it."""
        footer = owned_footer(self._store, shard, self._plan.plan)
        return {"shard": shard, "images": footer.images, "failed": len(footer.failures)}

    def _render(
        self, todo: list[ImageRow], planned: int, marker: Attempts, history: History
    ) -> list[Future[Finished] | Failure]:
        """Outcomes in order of rows; pictures are being compressed while the device goes on."""
        pending: list[Future[Finished] | Failure] = []
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
    ) -> list[Future[Finished] | Failure]:
        """A row of a shard that killed workers: in a batch of its own, of the planned shape."""
        if history.fatal(row.image_id):
            return [
                Failure("KILLS_WORKER", f"the process died {history.row_deaths[row.image_id]} times at this row alone")
            ]
        marker.begin(row.image_id)
        (outcomes,) = self._batches.render([row], planned)
        return [self._finish_later(row, outcome, planned, history) for outcome in outcomes]

    def _finish_later(
        self, row: ImageRow, outcome: Outcome, planned: int, history: History
    ) -> Future[Finished] | Failure:
        if isinstance(outcome, Failure):
            return outcome
        return self._pool.submit(finish, row, outcome, planned, history.attempts + 1, self._format, self._quality)

    def _footer(
        self, shard: int, attempt_id: str, attempt: int, rows: pa.Table, outcomes: list[Finished | Failure]
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


def _read_plan(store: Store, plan: str) -> tuple[Run, plans.Plan]:
    found = Run.find(store)
    for candidate in found.plans if found else ():
        if found and candidate.plan == plan:
            return found, candidate
    raise Infrastructure(
        f"{store}: the node {socket.gethostname()} does not see the plan there. Use a path that all nodes share, or S3."
    )


def image_rows(rows: pa.Table) -> list[ImageRow]:
    """Plan rows as a renderer takes them."""
    names = [name for name in ImageRow.__dataclass_fields__ if name in rows.column_names]
    return [
        ImageRow(**{**row, "negative_prompt": row["negative_prompt"] or ""}) for row in rows.select(names).to_pylist()
    ]


def finish(
    row: ImageRow, picture: Picture, planned: int, attempt: int, image_format: str, quality: int | None = None
) -> Finished:
    """Compress and examine one picture: CPU work, off the device's path."""
    pixels = picture.pixels
    facts = {
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
    data = images.encode(pixels, image_format, quality)
    return Finished(data, f"{row.image_id}.{images.FORMATS[image_format].extension}", facts)
