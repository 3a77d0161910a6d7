"""Markers of who is rendering what, to find the rows that kill workers.

A marker is written before a shard waits for the device, moves while the device works and while pictures are stored, and
is removed when the attempt is over. A thread of its own writes it, with little patience: no device waits for a store,
but before a row that is alone, which may end the process at once. So a marker may be a moment behind its attempt.

One that stays behind is a death only if somebody can know it: an actor that finds a marker of its own driver at the
shard it was given (Ray gives a shard to one call at a time), or a driver that ended a renderer which hung. Markers of
other drivers say nothing: those may be alive, or were killed together with their renderers. A machine that is taken
away without a word looks like a death; `history` says why no healthy row pays.

Knows the store only. Losing a marker costs a repeated attempt, nothing else.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal

from batchgen.errors import BatchgenError
from batchgen.run.history import Death, History
from batchgen.run.layout import HIDDEN, number_in, shard_name
from batchgen.storage.store import Store

FOLDER = f"{HIDDEN}/attempts"
PATIENCE_S = 5.0  # of a marker with a store: after it, the attempt goes on without


@dataclass(frozen=True, slots=True)
class Marker:
    """session: the driver's. image_id: the row that was alone on the device, if one was.

    doing: what the attempt is at. device, process: whose it is. survived: rows that were alone before, and lived.
    serial: of an attempt's markers, the last one counts.
    """

    session: str
    attempt_id: str
    image_id: str | None = None
    state: Literal["running", "preempted", "dead", "hung"] = "running"
    doing: Literal["waiting", "rendering", "storing"] = "rendering"
    device: str = ""
    process: str = ""
    survived: tuple[str, ...] = ()
    serial: int = 0

    @classmethod
    def from_json(cls, data: bytes) -> Marker:
        """Raises ValueError, TypeError for what is no marker."""
        values = json.loads(data)
        return cls(**{**values, "survived": tuple(values.get("survived", ()))})

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def markers(store: Store, folder: str = FOLDER) -> dict[str, Marker]:
    """Path → marker, of all shards or of one: the last of each attempt. What is no marker is passed over."""
    found: dict[str, tuple[str, Marker]] = {}
    for entry in store.list(folder):
        try:
            marker = Marker.from_json(store.read(entry.path))
        except (FileNotFoundError, ValueError, TypeError):
            continue  # removed since it was listed, or not ours
        attempt = f"{shard_of(entry.path)}-{marker.attempt_id}"
        if attempt not in found or found[attempt][1].serial < marker.serial:
            found[attempt] = entry.path, marker
    return dict(found.values())


def shard_of(path: str) -> int | None:
    """The shard whose marker lies there."""
    return number_in(path.removeprefix(f"{FOLDER}/").split("/")[0])


def marked(store: Store) -> dict[int, set[str]]:
    """Shard → paths of its markers, by their names alone. Somebody is at these shards, or died at them."""
    found: dict[int, set[str]] = {}
    for entry in store.list(FOLDER):
        if (number := shard_of(entry.path)) is not None:
            found.setdefault(number, set()).add(entry.path)
    return found


def running(store: Store, session: str) -> dict[str, Marker]:
    """What this driver's renderers work on now. Ask before ending them, then `bury` the answer."""
    everything = markers(store).items()
    return {path: marker for path, marker in everything if marker.session == session and marker.state == "running"}


def others_at_work(store: Store, session: str, process: str) -> bool:
    """Whether another renderer of this session is at a shard now."""
    return any(marker.process != process for marker in running(store, session).values())


def is_busy(store: Store, shard: int) -> bool:
    """Whether somebody is at this shard now."""
    return any(one.state == "running" for one in markers(store, f"{FOLDER}/{shard_name(shard)}").values())


def died_at(store: Store, session: str) -> dict[int, set[str]]:
    """Shard → the devices that died while they rendered it, in this session."""
    died: dict[int, set[str]] = {}
    for path, marker in markers(store).items():
        number = shard_of(path)
        if number is not None and (marker.session, marker.state, marker.doing) == (session, "dead", "rendering"):
            died.setdefault(number, set()).add(marker.device)
    return died


def bury(store: Store, ended: dict[str, Marker], state: Literal["dead", "hung"] = "dead") -> dict[str, Marker]:
    """Record that renderers died at these markers, even if they still wrote to them while being ended."""
    buried = {path: replace(marker, state=state) for path, marker in ended.items()}
    for path, marker in buried.items():
        store.replace(path, marker.to_json())
    return buried


class MarkerWriter:
    """Writes the markers of a process, one after the other, while the process goes on. thread: who does it."""

    def __init__(self, store: Store, thread: Executor | None = None) -> None:
        self.store = store
        self.hasty = store.at_most(PATIENCE_S)
        self.thread = thread or ThreadPoolExecutor(1, thread_name_prefix="markers")


class Attempts:
    """The marker of one attempt at a shard. device, process: who makes the attempt."""

    def __init__(
        self, writer: MarkerWriter, shard: int, session: str, attempt_id: str, device: str = "", process: str = ""
    ) -> None:
        self._store, self._hasty, self._thread = writer.store, writer.hasty, writer.thread
        self._folder = f"{FOLDER}/{shard_name(shard)}"
        self._now = Marker(session, attempt_id, doing="waiting", device=device, process=process)
        self.attempt_id = attempt_id
        self._lock = threading.RLock()  # a sign of life may come from another thread
        self._ended = False
        self._written = 0
        self._writing = False
        self._paths: list[str] = []  # of markers that may be there, the last one last

    def history(self, given: bool = True) -> History:
        """Ask before `wait`. Finds out, and records, who died at this shard.

        given: whether this driver gave the shard to nobody else meanwhile.
        """
        found = markers(self._store, self._folder)
        mine = self._now.session
        found |= bury(
            self._store,
            {path: m for path, m in found.items() if given and m.state == "running" and m.session == mine},
        )
        dead = [marker for marker in found.values() if marker.state in ("dead", "hung")]
        attempts = len({marker.attempt_id for marker in found.values()})
        judged = [(marker, self._blameless(marker)) for marker in dead]
        # What waited while another shard was on the device has seen nothing.
        died = (_death(marker, blameless) for marker, blameless in judged if not blameless or marker.doing == "storing")
        return History(attempts, tuple(died))

    def _blameless(self, marker: Marker) -> bool:
        """Whether a process that died while this shard waited or was stored was at the same time rendering another."""
        if marker.doing == "rendering":
            return False
        everything = markers(self._store).values()
        return any(other.process == marker.process and other.doing == "rendering" for other in everything)

    def wait(self) -> None:
        """Mark that this process is at the shard, which waits for the device. Returns when that is written."""
        _in_time(self._move(doing="waiting"))

    def begin(self, image_id: str | None = None) -> None:
        """Mark that the device works on the shard now. Or on a row of it alone: that is written when this returns."""
        moved = self._move(image_id=image_id, doing="rendering")
        if image_id is not None:
            _in_time(moved)

    def beat(self) -> None:
        """A sign of life."""
        self._move()

    def survived(self, image_id: str) -> None:
        """The row was alone on the device, which lived: the next `begin` says so."""
        with self._lock:
            self._now = replace(self._now, survived=(*self._now.survived, image_id))

    def storing(self) -> None:
        """Mark that the device is done: pictures are compressed, assembled and stored now."""
        self._move(image_id=None, doing="storing")

    def _move(self, **values: str | None) -> Future[None] | None:
        with self._lock:
            if self._ended or self._now.state == "preempted":
                return None
            self._now = replace(self._now, serial=self._now.serial + 1, **values)  # type: ignore[arg-type]
            return self._thread.submit(self._write)

    def _write(self) -> None:
        """In the writer's thread: what is true by now, unless it stands there already."""
        self._writing = True
        try:
            now = self._now
            if self._ended or now.serial == self._written:
                return
            with suppress(BatchgenError):
                self._paths.append(f"{self._folder}/{self.attempt_id}-{now.serial}.json")
                self._hasty.replace(self._paths[-1], now.to_json())
                self._written = now.serial
                while len(self._paths) > 1:
                    self._hasty.delete(self._paths[0])
                    del self._paths[0]
        finally:
            self._writing = False

    def end(self) -> None:
        """This attempt is over, whatever came of it: it did not die. Returns when its marker is gone."""
        with self._lock:
            self._ended = True
        _in_time(self._thread.submit(self._remove))

    def _remove(self) -> None:
        while self._paths:
            self._store.delete(self._paths.pop())

    def preempt(self) -> None:
        """The machine is taken away, which is not the rows' fault, however long it lives on.

        For a signal's handler, which may take no lock: it waits until what is being written is written.
        """
        self._now = replace(self._now, state="preempted")
        began = time.monotonic()
        while self._writing and time.monotonic() - began < PATIENCE_S:
            time.sleep(0.01)
        if self._paths:
            self._store.replace(self._paths[-1], self._now.to_json())


def _in_time(written: Future[None] | None) -> None:
    """Wait until a marker is written, for no longer than a marker is worth."""
    if written is not None:
        wait([written], PATIENCE_S)


def _death(marker: Marker, blameless: bool) -> Death:
    return Death(
        device=marker.device,
        image_id=marker.image_id,
        storing=marker.doing == "storing",
        survived=marker.survived,
        blameless=blameless,
        hung=marker.state == "hung",
    )
