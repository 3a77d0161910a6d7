"""Markers of who is rendering what, to find the rows that kill workers.

A marker is written when a shard gets the device and removed when the device is done with it, so a marker that is left
behind is a death. Knows the store only. Markers are hints: losing one costs a repeated attempt, nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from batchgen.run import HIDDEN
from batchgen.storage import Store

DEATHS_BEFORE_ISOLATION = 2  # of a shard: then its rows are rendered one by one
DEATHS_BEFORE_FAILURE = 2  # of a row that was alone


@dataclass(frozen=True, slots=True)
class History:
    """What earlier attempts at a shard left: how many there were, and how many died, in all and per lone row."""

    attempts: int
    deaths: int
    row_deaths: Counter[str]

    @property
    def isolate(self) -> bool:
        return self.deaths >= DEATHS_BEFORE_ISOLATION

    def fatal(self, image_id: str) -> bool:
        return self.row_deaths[image_id] >= DEATHS_BEFORE_FAILURE


def marked(store: Store) -> set[int]:
    """Shards with a marker: somebody is at them, or died at them. Others should come first."""
    folder = f"{HIDDEN}/attempts/shard-"
    return {int(entry.path[len(folder) :].split("/")[0]) for entry in store.list(f"{HIDDEN}/attempts")}


class Attempts:
    """Markers of one shard attempt. `begin` again moves the marker on to the next lone row."""

    def __init__(self, store: Store, shard: int, attempt_id: str) -> None:
        self._store, self._directory = store, f"{HIDDEN}/attempts/shard-{shard:06}"
        self.attempt_id = attempt_id
        self._serial = 0
        self._path = ""

    def history(self) -> History:
        markers = []
        for entry in self._store.list(self._directory):
            try:
                markers.append(json.loads(self._store.read(entry.path)))
            except (FileNotFoundError, ValueError):
                continue  # removed since it was listed, or half-written by a dying node
        died = [marker for marker in markers if not marker["preempted"]]
        attempts = {marker["attempt_id"] for marker in markers}
        return History(len(attempts), len(died), Counter(marker["image_id"] for marker in died if marker["image_id"]))

    def begin(self, image_id: str | None = None) -> None:
        """Mark that the device now works on the whole shard, or on one row of it alone."""
        before = self._path
        self._serial += 1
        self._path = f"{self._directory}/{self.attempt_id}-{self._serial}.json"
        self._store.replace(self._path, self._marker(image_id, preempted=False))
        if before:
            self._store.delete(before)

    def end(self) -> None:
        """The device is done with this shard, whatever came of it: this attempt did not die."""
        if self._path:
            self._store.delete(self._path)
        self._path = ""

    def preempt(self) -> None:
        """The machine is taken away, which is not the rows' fault."""
        if self._path:
            self._store.replace(self._path, self._marker(None, preempted=True))

    def _marker(self, image_id: str | None, *, preempted: bool) -> bytes:
        return json.dumps({"attempt_id": self.attempt_id, "image_id": image_id, "preempted": preempted}).encode()
