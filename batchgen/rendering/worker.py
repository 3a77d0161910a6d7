"""The actor: holds one renderer, takes shard numbers, gives back receipts. Pictures go to the store, not through Ray.

Knows no Ray API: Ray Data calls it with tables. Two calls may run at once, and wait for the thread that has the device:
one shard renders while the other is looked up, or compressed, verified and stored. A failure counts when two devices
saw it: what fails here is left for another renderer, and what failed elsewhere is looked at before the shard that Ray
brings. A renderer that made nothing of a whole shard waits for that second opinion; if the rows were fine, it is the
renderer that is sick.
"""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from batchgen.engines import device_of, load_renderer
from batchgen.errors import BatchgenError, Infrastructure, RendererBroken
from batchgen.rendering import receipt
from batchgen.rendering.attempt import Attempt, Pending, Renderer
from batchgen.rendering.batches import Batches
from batchgen.rendering.device_thread import DeviceThread
from batchgen.rendering.receipt import Receipt
from batchgen.rendering.stop import Stop
from batchgen.run.attempts import Attempts, MarkerWriter, is_busy, others_at_work
from batchgen.run.attention import agree
from batchgen.run.directory import Run, commit, owned_footer
from batchgen.run.doubts import Doubt, doubted, doubts_of, mark, record, settle
from batchgen.run.found_model import FoundModel
from batchgen.run.history import History
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path
from batchgen.run.ledger import pack, read_entry
from batchgen.run.plans import Plan
from batchgen.run.set_aside import set_aside
from batchgen.run.shard_file import EncodedPicture, Failure
from batchgen.storage.store import Store
from batchgen.weights.spec import spec_of
from batchgen.words import redact

COMPRESSION_THREADS = 2  # per renderer; PNG of 1024² takes a third of a CPU second, the image seconds of a GPU
LOOKUPS_AT_ONCE = 4  # of two calls: a store that is far away answers them in the time of one
ASK_S = 1.0  # how often to look for a second opinion
QUIET_S = 10.0  # without anybody at work, after which none is to be expected now
ASIDE_S = 900.0  # without a commit of anybody, after which a renderer that was set aside says that it is the last one


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What an actor is told; all else stands in the plan.

    url: the run directory. plan: id of the plan. session: name of the driver's session, for markers. model: where this
    job has the weights, whose digest is the plan's; None: where the planner saw them. only_device: there is no other
    device, so a fresh process on the same one gives the second opinion. aside: marks of devices that leave the work to
    others.
    """

    url: str
    plan: str
    session: str
    model: FoundModel | None = None
    only_device: bool = False
    aside: frozenset[str] = frozenset()


class RenderShard:
    """What Ray Data makes an actor of."""

    def __init__(self, orders: Orders) -> None:
        self._began = time.monotonic()
        self._orders = orders
        self._device_thread, self._opinion = DeviceThread(), threading.Lock()
        self._pool = ThreadPoolExecutor(COMPRESSION_THREADS, thread_name_prefix="compress")
        self._lookups = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="look up")
        self._active: dict[str, Attempts] = {}
        self._unfinished: set[int] = set()  # shards between the device and their commit
        self._process = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:4]}"
        self._device = self._process
        self._made_nothing_of: int | None = None  # a shard of which another renderer should say whether it is the rows
        self._is_alone = False  # kept from shard to shard: who is alone waits once, not for each
        self._sick: str | None = None
        self._error: BatchgenError | None = None
        try:
            self._store = Store.open(orders.url)
            self._markers = MarkerWriter(self._store)
            self._stop = Stop(self._store, orders.session)
            self._run, self._plan = _read_plan(self._store, orders.plan)
            self._shards = {shard.number: shard for shard in self._run.shards(self._plan)}
            self._replaced = frozenset(self._run.replaced_after(self._plan))
            self._start()
        except RendererBroken as error:  # leaving the process would only bring the next one here
            self._give_up(f"cannot be started: {error}")
        except BatchgenError as error:
            self._error = error  # said in the first receipt: an error here would reach the driver as a dead actor
        self._mark_when_preempted()

    def _start(self) -> None:
        spec = spec_of(self._plan, self._orders.model)
        if own := self._device_thread.run(partial(device_of, spec)):
            self._device = f"{socket.gethostname()} {own}"
        if mark(self._device) in self._orders.aside:
            self._stand_aside()
        if not self._stop.asked():
            loaded = self._device_thread.run(partial(load_renderer, spec))
            agree(self._store, loaded.versions.get("attention"), f"{loaded.device} of {socket.gethostname()}")
            self._renderer = Renderer(
                batches=Batches(loaded, ThreadPoolExecutor(1, thread_name_prefix="ahead")),  # not behind pictures
                pool=self._pool,
                cold_start=time.monotonic() - self._began,
                device=self._device,
                process=self._process,
                only_device=self._orders.only_device,
            )

    def _give_up(self, why: str) -> None:
        self._sick = redact(f"{self._device}: {why}")
        set_aside(self._store, self._orders.session, self._device, self._sick)

    def _stand_aside(self) -> None:
        """Ray gives an actor nothing while it starts. Raises Infrastructure when nobody else gets on."""
        committed, since = len(self._run.committed()), time.monotonic()
        while not self._stop.asked():
            time.sleep(ASK_S)
            if time.monotonic() - since > ASIDE_S:
                before, committed, since = committed, len(self._run.committed()), time.monotonic()
                if committed == before:
                    raise Infrastructure(f"No renderer gets on, and {self._device} was set aside: run this again.")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Numbers of shards, in a column `shard` → a receipt for each, and for each that was rendered on the way."""
        receipts = []
        for number in batch["shard"].to_pylist():
            self._ask_about_this_renderer()
            receipts += [self._receipt(other, given=False) for other in self._doubted_elsewhere()]
            receipts.append(self._receipt(number))
        for one in receipts:
            one.renderer, one.device = self._process, self._device
            one.renderer_seconds = time.monotonic() - self._began
        return receipt.to_table(receipts)

    def _receipt(self, number: int, given: bool = True) -> Receipt:
        try:
            if self._error is not None:
                raise self._error
            if self._sick is not None:
                self._wait_for_others(number)
                return Receipt(shard=number, sick=self._sick)
            return self._work(self._shards[number], given)
        except RendererBroken as error:
            # A broken CUDA context breaks every later call in this process, and Ray would retry in the same one.
            print(f"shard {number}: leaving the process: {error}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)
        except BatchgenError as error:
            return Receipt.broken(number, error)
        finally:
            self._unfinished.discard(number)

    def _work(self, shard: ShardRef, given: bool) -> Receipt:
        if self._stop.asked():
            return self._given_back(shard)
        if self._store.exists(data_path(shard.number)):
            return self._existing(shard)
        marker = Attempts(
            self._markers, shard.number, self._orders.session, uuid.uuid4().hex, self._device, self._process
        )
        found = self._lookups.submit(doubts_of, self._store, shard.number, self._plan.plan)
        rows = self._lookups.submit(self._run.rows, self._plan, shard)
        history, doubts = marker.history(given), found.result()
        if history.kills_while_storing:
            raise Infrastructure(_memory(shard))
        if self._is_anothers_turn(history, doubts):
            if given:
                self._wait_for_others(shard.number)
            return Receipt(shard=shard.number, doubted=shard.rows)
        attempt = Attempt(
            renderer=self._renderer, plan=self._plan, shard=shard, rows=rows.result(),
            replaced=self._replaced, marker=marker, history=history, doubts=doubts,
        )  # fmt: skip
        self._active[marker.attempt_id] = marker
        died = False
        try:
            marker.wait()
            pending = self._device_thread.run_unless(self._stop.asked, partial(self._on_device, attempt))
            if pending is None:
                return self._given_back(shard)
            marker.storing()
            return self._stored(attempt, attempt.outcomes(pending))
        except RendererBroken:
            died = True
            raise
        finally:
            del self._active[marker.attempt_id]
            if not died:
                marker.end()

    def _on_device(self, attempt: Attempt) -> Pending:
        self._unfinished.add(attempt.shard.number)
        return attempt.render()

    def _stored(self, attempt: Attempt, outcomes: list[EncodedPicture | Failure]) -> Receipt:
        """Commit what came of the shard, or leave it to another device where that should look first."""
        number = attempt.shard.number
        if unsure := attempt.unsure(outcomes):
            data, _ = attempt.file(outcomes, doubtful=True)
            record(self._store, number, self._device, attempt.marker.attempt_id, data)
            if not self._orders.only_device and not any(isinstance(one, EncodedPicture) for one in outcomes):
                self._made_nothing_of = number
            return Receipt(shard=number, doubted=len(unsure))
        data, footer = attempt.file(outcomes)
        answer = commit(self._store, data, footer)
        settle(self._store, number)
        if answer == "already":  # what lies there was made elsewhere, and the ledger must say what lies there
            return self._existing(attempt.shard)
        entry = pack(read_entry(io.BytesIO(data)))
        suspect = sum(isinstance(one, EncodedPicture) and one.values["suspect"] is not None for one in outcomes)
        why = next((f"{failure.code}: {failure.message}" for failure in footer.failures.values()), None)
        return Receipt.done(number, footer.images, len(footer.failures), suspect, why, entry)

    def _is_anothers_turn(self, history: History, doubts: list[Doubt]) -> bool:
        """Whether this device has said more of the shard, or died at it more often, than all others together."""
        if self._orders.only_device:
            return any(doubt.process == self._process for doubt in doubts)
        mine = sum(doubt.device == self._device for doubt in doubts)
        return 2 * mine > len(doubts) or history.is_anothers_turn(self._device)

    def _doubted_elsewhere(self) -> list[int]:
        """A shard that failed elsewhere and at which nobody is now, if there is one: it goes first."""
        if self._error or self._sick or self._orders.only_device or self._stop.asked():
            return []
        mine, open_doubts = mark(self._device), doubted(self._store)
        numbers = [number for number, devices in open_doubts.items() if mine not in devices and number in self._shards]
        random.shuffle(numbers)  # all renderers look at the same time
        free = (n for n in numbers if not self._store.exists(data_path(n)) and not is_busy(self._store, n))
        return [number for number in [next(free, None)] if number is not None]

    def _ask_about_this_renderer(self) -> None:
        """After a shard of which nothing could be made: was it the rows, or is it this renderer?"""
        with self._opinion:
            number, self._made_nothing_of = self._made_nothing_of, None
            if number is not None and self._wait_for_others(number):
                images = owned_footer(self._store, number, self._plan.plan).images
                if images:
                    self._give_up(f"made nothing of shard {number}, of which another renderer made {images} images")

    def _wait_for_others(self, shard: int) -> bool:
        """Wait while others are at work: until the shard is committed (True), or they are done or are to stop."""
        began = time.monotonic()
        while not self._stop.asked():
            if self._store.exists(data_path(shard)):
                return True
            if others_at_work(self._store, self._orders.session, self._process):
                began, self._is_alone = time.monotonic(), False
            elif self._is_alone or time.monotonic() - began >= QUIET_S:
                self._is_alone = True
                return False
            time.sleep(ASK_S)
        return False

    def _given_back(self, shard: ShardRef) -> Receipt:
        return Receipt.given_back(shard.number, len(self._unfinished - {shard.number}))

    def _existing(self, shard: ShardRef) -> Receipt:
        """Another driver or an earlier attempt was faster: no device time for it."""
        footer = owned_footer(self._store, shard.number, self._plan.plan)
        with self._store.open_file(data_path(shard.number)) as opened:
            entry = pack(read_entry(opened))
        return Receipt.done(shard.number, footer.images, len(footer.failures), entry=entry)

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


def _memory(shard: ShardRef) -> str:
    return (
        f"shard {shard.number}: processes ended twice while its {shard.rows} pictures were compressed and stored, most "
        "likely for want of memory. Give renderers more, or render into a new directory with a lower "
        "output.images_per_shard."
    )


def _read_plan(store: Store, plan: str) -> tuple[Run, Plan]:
    run = Run.find(store)
    for candidate in run.plans if run else ():
        if run and candidate.plan == plan:
            return run, candidate
    raise Infrastructure(
        f"{store}: the node {socket.gethostname()} does not see the plan there. Use a path that all nodes share, or S3."
    )
