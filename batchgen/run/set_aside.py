"""Devices that a session does not use any more, and why: a file for each, written by whoever finds out.

Knows the store only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from batchgen.run.attempts import died_at
from batchgen.run.doubts import doubted, mark
from batchgen.run.layout import HIDDEN
from batchgen.storage.store import Store

SHARDS_THAT_BLAME = 2  # at which a device died, no other did, and another finished


def _folder(session: str) -> str:
    return f"{HIDDEN}/aside/{session}"


def set_aside(store: Store, session: str, device: str, why: str) -> None:
    store.replace(f"{_folder(session)}/{mark(device)}.json", json.dumps({"device": device, "why": why}).encode())


def those_set_aside(store: Store, session: str) -> dict[str, str]:
    """Device → why."""
    found = {}
    for entry in store.list(_folder(session)):
        values = json.loads(store.read(entry.path))
        found[values["device"]] = values["why"]
    return found


def blame(store: Store, session: str, committed: set[int]) -> None:
    """Set aside the devices whose processes ended at shards that others rendered."""
    blamed: dict[str, int] = {}
    for shard, devices in died_at(store, session).items():
        if len(devices) == 1 and shard in committed:
            (device,) = devices
            blamed[device] = blamed.get(device, 0) + 1
    for device, shards in blamed.items():
        if device and shards >= SHARDS_THAT_BLAME:
            set_aside(store, session, device, f"{device}: its process ended at {shards} shards that others rendered")


def had_their_say(store: Store, session: str, shards: set[int]) -> set[str]:
    """Marks of the devices that failed or died at all of these shards, and at which no other did."""
    opinions, deaths = doubted(store), died_at(store, session)
    each = [opinions.get(shard, set()) | {mark(device) for device in deaths.get(shard, ())} for shard in shards]
    return set.intersection(*each) if each and all(len(devices) == 1 for devices in each) else set()


@contextmanager
def nobody_aside_at_the_end(store: Store, session: str) -> Iterator[None]:
    """The driver's block around a session: however that ends, its files are taken away."""
    try:
        yield
    finally:
        for entry in store.list(_folder(session)):
            store.delete(entry.path)
