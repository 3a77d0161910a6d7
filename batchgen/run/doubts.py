"""Shards at which rows failed on one device only, and what that device made of them so far.

A failure counts when two devices saw it. Until then the shard lies here as the file that it would have been: another
device takes its pictures over and renders the rest. Knows the store and the file of a shard, not who renders.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen import schema
from batchgen.run.damage import DAMAGED
from batchgen.run.layout import HIDDEN, number_in, shard_name
from batchgen.run.shard_file import EncodedPicture, Failure, Footer, read_whole
from batchgen.storage.store import Store

FOLDER = f"{HIDDEN}/doubts"
DEVICE, PROCESS = "doubt_device", "doubt_process"  # constants of such a file beside those of a shard


@dataclass(frozen=True, slots=True)
class Doubt:
    """One device's opinion of a shard: what failed there, and the pictures it made. device, process: whose it is."""

    path: str
    device: str
    process: str
    footer: Footer
    table: pa.Table

    @property
    def failures(self) -> dict[str, Failure]:
        return self.footer.failures

    def pictures(self, like: dict[str, Any]) -> dict[str, EncodedPicture]:
        """Its pictures by image_id; none where they were made otherwise than `like`, the constants of a shard, says."""
        if any(self.footer.constants.get(name) != like[name] for name in ("device", "versions", "sigmas")):
            return {}
        return {row["image_id"]: _picture(row) for row in self.table.to_pylist()}


def _picture(row: dict[str, Any]) -> EncodedPicture:
    values = {field.name: row[field.name] for field in schema.RENDER_FIELDS}
    return EncodedPicture(row["image"]["bytes"], row["image"]["path"], values)


def doubts_of(store: Store, shard: int, plan: str) -> list[Doubt]:
    """All opinions of a shard. What is damaged or another plan's is passed over: it costs a repeated attempt."""
    found = []
    for entry in store.list(f"{FOLDER}/{shard_name(shard)}"):
        try:
            footer, table = read_whole(store.read(entry.path))
        except DAMAGED:
            continue
        if footer.plan == plan:
            device, process = footer.constants.get(DEVICE, ""), footer.constants.get(PROCESS, "")
            found.append(Doubt(entry.path, device, process, footer, table))
    return found


def doubted(store: Store) -> dict[int, set[str]]:
    """Shard → the `mark` of each device that has an opinion, by the names of the files alone."""
    found: dict[int, set[str]] = {}
    for entry in store.list(FOLDER):
        folder, _, name = entry.path.removeprefix(f"{FOLDER}/").partition("/")
        if (number := number_in(folder)) is not None:
            found.setdefault(number, set()).add(name.split("-")[0])
    return found


def mark(device: str) -> str:
    """What stands for a device in the name of a file."""
    return hashlib.sha256(device.encode()).hexdigest()[:16]


def record(store: Store, shard: int, device: str, attempt_id: str, data: bytes) -> None:
    """data: the file as `shard_file.build` makes it."""
    store.replace(f"{FOLDER}/{shard_name(shard)}/{mark(device)}-{attempt_id}.parquet", data)


def settle(store: Store, shard: int) -> None:
    """The shard is committed: take its doubts away."""
    for entry in store.list(f"{FOLDER}/{shard_name(shard)}"):
        store.delete(entry.path)
