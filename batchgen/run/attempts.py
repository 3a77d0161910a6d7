"""Markers of who is rendering what, to find the rows that kill workers.

A marker is written when a shard gets the device, moves while the device works, and is removed when the device is done
with it. One that stays behind is a death only if somebody can know it: an actor that finds a marker of its own driver
at the shard it was given (Ray gives a shard to one call at a time), or a driver that ended a renderer which hung.
Markers of other drivers say nothing: those may be alive, or were killed together with their renderers.

Knows the store only. Losing a marker costs a repeated attempt, nothing else.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Literal

from batchgen.run.layout import HIDDEN, number_in, shard_name
from batchgen.storage.store import Store

FOLDER = f"{HIDDEN}/attempts"
DEATHS_BEFORE_ISOLATION = 2  # of a shard: then its rows are rendered one by one
DEATHS_BEFORE_FAILURE = 2  # of a row that was alone


@dataclass(frozen=True, slots=True)
class Marker:
    """session: the driver's. image_id: the row that was alone on the device, if one was."""

    session: str
    attempt_id: str
    image_id: str | None = None
    state: Literal["running", "preempted", "dead"] = "running"


@dataclass(frozen=True, slots=True)
class History:
    """What is known of earlier attempts at a shard: how many there were, deaths in all and per lone row."""

    attempts: int
    deaths: int
    row_deaths: Counter[str]

    @property
    def isolate(self) -> bool:
        return self.deaths >= DEATHS_BEFORE_ISOLATION

    def fatal(self, image_id: str) -> bool:
        return self.row_deaths[image_id] >= DEATHS_BEFORE_FAILURE


def markers(store: Store, folder: str = FOLDER) -> dict[str, Marker]:
    """Path → marker, of all shards or of one. What is no marker is passed over."""
    found = {}
    for entry in store.list(folder):
        try:
            found[entry.path] = Marker(**json.loads(store.read(entry.path)))
        except (FileNotFoundError, ValueError, TypeError):
            continue  # removed since it was listed, or not ours
    return found


def marked(store: Store) -> dict[int, set[str]]:
    """Shard → paths of its markers, by their names alone. Somebody is at these shards, or died at them."""
    found: dict[int, set[str]] = {}
    for entry in store.list(FOLDER):
        if (number := number_in(entry.path.removeprefix(f"{FOLDER}/").split("/")[0])) is not None:
            found.setdefault(number, set()).add(entry.path)
    return found


def running(store: Store, session: str) -> dict[str, Marker]:
    """What this driver's renderers work on now. Ask before ending them, then `bury` the answer."""
    everything = markers(store).items()
    return {path: marker for path, marker in everything if marker.session == session and marker.state == "running"}


def bury(store: Store, ended: dict[str, Marker]) -> None:
    """Record that renderers died at these markers, even if they still wrote to them while being ended."""
    for path, marker in ended.items():
        store.replace(path, _json(replace(marker, state="dead")))


class Attempts:
    """The marker of one attempt at a shard. `begin` again moves it on."""

    def __init__(self, store: Store, shard: int, session: str, attempt_id: str) -> None:
        self._store, self._folder = store, f"{FOLDER}/{shard_name(shard)}"
        self._now = Marker(session, attempt_id)
        self.attempt_id = attempt_id
        self._lock = threading.RLock()  # a sign of life may come from another thread, or a signal in between
        self._ended = False
        self._serial = 0
        self._path = ""

    def history(self) -> History:
        """Ask before `begin`. Finds out, and records, who died at this shard."""
        found = markers(self._store, self._folder)
        mine = self._now.session
        died = {path: m for path, m in found.items() if m.state == "running" and m.session == mine}
        bury(self._store, died)
        dead = [marker for path, marker in found.items() if marker.state == "dead" or path in died]
        attempts = {marker.attempt_id for marker in found.values()}
        return History(len(attempts), len(dead), Counter(marker.image_id for marker in dead if marker.image_id))

    def begin(self, image_id: str | None = None) -> None:
        """Mark that the device now works on the shard, or on one row of it alone. Each call is a sign of life."""
        with self._lock:
            if self._ended:
                return
            before = self._path
            self._serial += 1
            self._now = replace(self._now, image_id=image_id)
            self._path = f"{self._folder}/{self.attempt_id}-{self._serial}.json"
            self._store.replace(self._path, _json(self._now))
            if before:
                self._store.delete(before)

    def end(self) -> None:
        """The device is done with this shard, whatever came of it: this attempt did not die."""
        with self._lock:
            if self._path:
                self._store.delete(self._path)
            self._path, self._ended = "", True

    def preempt(self) -> None:
        """The machine is taken away, which is not the rows' fault."""
        if self._path:
            self._store.replace(self._path, _json(replace(self._now, state="preempted")))


def _json(marker: Marker) -> bytes:
    return json.dumps(asdict(marker)).encode()
