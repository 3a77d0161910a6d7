"""Markers of who is rendering what, to find the rows that kill workers.

A marker is written when a shard gets the device, moves while the device works and while pictures are stored, and is
removed when the attempt is over. One that stays behind is a death only if somebody can know it: an actor that finds a
marker of its own driver at the shard it was given (Ray gives a shard to one call at a time), or a driver that ended a
renderer which hung. Markers of other drivers say nothing: those may be alive, or were killed together with their
renderers. A machine that is taken away without a word looks like a death; `history` says why no healthy row pays.

Knows the store only. Losing a marker costs a repeated attempt, nothing else.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from typing import Literal

from batchgen.run.history import Death, History
from batchgen.run.layout import HIDDEN, number_in, shard_name
from batchgen.storage.store import Store

FOLDER = f"{HIDDEN}/attempts"


@dataclass(frozen=True, slots=True)
class Marker:
    """session: the driver's. image_id: the row that was alone on the device, if one was.

    doing: what the attempt is at. device, process: whose it is. survived: rows that were alone before, and lived.
    """

    session: str
    attempt_id: str
    image_id: str | None = None
    state: Literal["running", "preempted", "dead", "hung"] = "running"
    doing: Literal["rendering", "storing"] = "rendering"
    device: str = ""
    process: str = ""
    survived: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: bytes) -> Marker:
        """Raises ValueError, TypeError for what is no marker."""
        values = json.loads(data)
        return cls(**{**values, "survived": tuple(values.get("survived", ()))})

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def markers(store: Store, folder: str = FOLDER) -> dict[str, Marker]:
    """Path → marker, of all shards or of one. What is no marker is passed over."""
    found = {}
    for entry in store.list(folder):
        try:
            found[entry.path] = Marker.from_json(store.read(entry.path))
        except (FileNotFoundError, ValueError, TypeError):
            continue  # removed since it was listed, or not ours
    return found


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


class Attempts:
    """The marker of one attempt at a shard. `begin` again moves it on. device, process: who makes the attempt."""

    def __init__(
        self, store: Store, shard: int, session: str, attempt_id: str, device: str = "", process: str = ""
    ) -> None:
        self._store, self._folder = store, f"{FOLDER}/{shard_name(shard)}"
        self._now = Marker(session, attempt_id, device=device, process=process)
        self.attempt_id = attempt_id
        self._lock = threading.RLock()  # a sign of life may come from another thread, or a signal in between
        self._ended = False
        self._serial = 0
        self._path = ""

    def history(self, given: bool = True) -> History:
        """Ask before `begin`. Finds out, and records, who died at this shard.

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
        return History(attempts, tuple(_death(marker, self._blameless(marker)) for marker in dead))

    def _blameless(self, marker: Marker) -> bool:
        """Whether a process that died while it stored this shard was at the same time rendering another."""
        if marker.doing != "storing":
            return False
        everything = markers(self._store).values()
        return any(other.process == marker.process and other.doing == "rendering" for other in everything)

    def begin(self, image_id: str | None = None) -> None:
        """Mark that the device now works on the shard, or on one row of it alone. Each call is a sign of life."""
        self._move(image_id=image_id)

    def beat(self) -> None:
        """Another sign of life."""
        self._move()

    def survived(self, image_id: str) -> None:
        """The row was alone on the device, which lived: the next `begin` says so."""
        with self._lock:
            self._now = replace(self._now, survived=(*self._now.survived, image_id))

    def storing(self) -> None:
        """Mark that the device is done: pictures are compressed, assembled and stored now."""
        self._move(image_id=None, doing="storing")

    def _move(self, **values: str | None) -> None:
        with self._lock:
            if self._ended or self._now.state == "preempted":
                return
            before = self._path
            self._serial += 1
            self._now = replace(self._now, **values)  # type: ignore[arg-type]
            self._path = f"{self._folder}/{self.attempt_id}-{self._serial}.json"
            self._store.replace(self._path, self._now.to_json())
            if before:
                self._store.delete(before)

    def end(self) -> None:
        """This attempt is over, whatever came of it: it did not die."""
        with self._lock:
            if self._path:
                self._store.delete(self._path)
            self._path, self._ended = "", True

    def preempt(self) -> None:
        """The machine is taken away, which is not the rows' fault, however long it lives on."""
        self._now = replace(self._now, state="preempted")
        if self._path:
            self._store.replace(self._path, self._now.to_json())


def _death(marker: Marker, blameless: bool) -> Death:
    return Death(
        device=marker.device,
        image_id=marker.image_id,
        storing=marker.doing == "storing",
        survived=marker.survived,
        blameless=blameless,
        hung=marker.state == "hung",
    )
