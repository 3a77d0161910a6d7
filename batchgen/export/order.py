"""Which images an export has, in which order, and how that order falls into parts.

The order is the plan's: data file after data file, without what failed or is not chosen. While a run renders, only what
is stored without a gap counts, so that parts never depend on which shard came first. Knows no picture and no target.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import Infrastructure
from batchgen.export.choice import Choice
from batchgen.export.part import Part
from batchgen.finalize.metadata import metadata
from batchgen.finalize.proof import proven_books
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.directory import Run
from batchgen.run.parquet import read_parquet

MIXED_TOGETHER = 8  # data files, drawn from all, whose images stand among each other; as many are in memory
COLUMNS = ["image_id", "status", "shard", "error_code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """rows: image_id, shard and group of all images, one after the other. complete: whether no more can follow.

    failed: how many images failed, by code. unchosen: how many are there and left out. missing: planned images whose
    shard, or one before it, is not rendered yet. note: on what was left out, for people.
    """

    rows: pa.Table
    complete: bool
    failed: dict[str, int]
    unchosen: int
    missing: int
    note: str | None

    def parts(self, size: int) -> list[Part]:
        """Those that are full, and the last one once the run is complete."""
        ends = range(0, len(self.rows) if self.complete else len(self.rows) // size * size, size)
        return [self._part(number, first, size) for number, first in enumerate(ends)]

    def _part(self, number: int, first: int, size: int) -> Part:
        rows = self.rows.slice(first, size)
        return Part(number, first, *(rows[name].to_pylist() for name in ("image_id", "shard", "group")))


def order_of(run: Run, choice: Choice, mix: bool) -> Order:
    """mix: sizes among each other, instead of one after the other. Raises Refused as Choice does."""
    stored = run.stored()
    prefix = next((number for number in range(run.next_shard) if number not in stored), run.next_shard)
    complete = prefix == run.next_shard
    if not complete:
        choice.refuse_unfinished(run, mix)
    table = pa.concat_tables(_pieces(run, stored, prefix, complete))
    good = table.filter(pc.equal(table["status"], "ok"))
    chosen = choice.among(run, range(prefix), complete)
    rows = good.select(["image_id", "shard"])
    if chosen.image_ids is not None:
        rows = rows.filter(pc.is_in(rows["image_id"], pa.array(sorted(chosen.image_ids), pa.string())))
    failed = Counter(table.filter(pc.equal(table["status"], "failed"))["error_code"].to_pylist())
    return Order(
        rows=_mixed(rows, seed_of(run)) if mix else rows.append_column("group", rows["shard"]),
        complete=complete,
        failed=dict(sorted(failed.items())),
        unchosen=len(good) - len(rows),
        missing=run.planned - len(table),
        note=chosen.note,
    )


def _pieces(run: Run, stored: dict[int, int], prefix: int, complete: bool) -> Iterator[pa.Table]:
    """The metadata table with few columns, of the shards before the first gap."""
    said = proven_books(run) if complete else None
    if said is None:
        sizes = {number: stored[number] for number in range(prefix)}
        for table in metadata(run, set(sizes), sizes):
            yield table.select(COLUMNS)
        return
    for part in said.metadata:
        try:
            with found_damaged(), run.store.open_file(part.path) as opened:
                yield read_parquet(opened, COLUMNS)
        except DAMAGED as error:
            raise Infrastructure(f"{run.store}/{part.path}: cannot be read ({error}). Run batchgen doctor.") from error


def seed_of(run: Run) -> str:
    """By which sizes are mixed: the same for the same run."""
    return run.plans[-1].fingerprint


def _mixed(rows: pa.Table, seed: str) -> pa.Table:
    """Data files in a drawn order, a few at a time, and the images of those in a drawn order too."""
    shards = rows["shard"].to_pylist()
    files = sorted(set(shards), key=lambda shard: _draw(seed, str(shard)))
    group = {shard: at // MIXED_TOGETHER for at, shard in enumerate(files)}
    groups = [group[shard] for shard in shards]
    draws = [_draw(seed, image_id) for image_id in rows["image_id"].to_pylist()]
    at = sorted(range(len(rows)), key=lambda row: (groups[row], draws[row]))
    return rows.append_column("group", pa.array(groups, pa.int32())).take(pa.array(at, pa.int64()))


def _draw(seed: str, name: str) -> bytes:
    """A hash instead of a generator of random numbers: no library of another version draws otherwise."""
    return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()
