"""Which image rows a preview renders: some of every bucket and cell, the longest prompts among them.

Stands in for a Sharder and takes full shards from one, so that every row that is picked has the batch size, the seed
and the name that the whole plan gives it: its pixels are those of the full run. What is picked depends on the rows, not
on their order. Holds twice `limit` rows, and two for each bucket and cell; knows neither Ray nor files.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import Refused
from batchgen.job import Job
from batchgen.plan import preflight
from batchgen.plan.preflight import Prepared
from batchgen.plan.sharding import BucketCount, PlannedShard, Sharder, Summary
from batchgen.rows.naming import replaced

Stratum = tuple[str, str]  # bucket, cell


@dataclass
class _Best:
    """The rows of a stratum that come first by one key, as tables of one row."""

    rows: list[tuple[tuple[object, ...], pa.Table]] = field(default_factory=list)

    def offer(self, key: tuple[object, ...], table: pa.Table, row: int, most: int) -> None:
        if len(self.rows) < most or key < self.rows[-1][0]:
            # take() copies; a slice would keep all of the shard in memory
            self.rows.append((key, table.take(pa.array([row]))))
            self.rows.sort(key=lambda item: item[0])
            self.trim(most)

    def trim(self, most: int) -> None:
        del self.rows[most:]


@dataclass
class _Kept:
    """What is held of a stratum. any: by a hash of the prompt's name, which is as good as by chance."""

    images: int = 0
    longest: _Best = field(default_factory=_Best)
    any: _Best = field(default_factory=_Best)

    def ranked(self, longest_first: bool) -> list[pa.Table]:
        """Long prompts and any prompts by turns, none twice."""
        lists = [self.longest.rows, self.any.rows][:: 1 if longest_first else -1]
        rows: dict[str, pa.Table] = {}
        for pair in zip(*lists, strict=True):
            for _, table in pair:
                rows.setdefault(table["image_id"][0].as_py(), table)
        return list(rows.values())


class Sample:
    """add(), finish() and take_skipped() as a Sharder's; finish() yields all there is, a batch in every shard."""

    def __init__(self, sharder: Sharder, limit: int) -> None:
        self._sharder, self._limit = sharder, limit
        self._kept: dict[Stratum, _Kept] = {}
        self._level = limit
        self._tflop: dict[str, float] = {}  # of one image

    @property
    def summary(self) -> Summary:
        """Of the preview, once finish() has come to its end; problems are those of the whole manifest."""
        return self._summary

    @property
    def held(self) -> list[pa.Table]:
        """The rows that may yet be of it, one a table."""
        return [row for kept in self._kept.values() for _, row in [*kept.any.rows, *kept.longest.rows]]

    def add(self, source_number: int, table: pa.Table) -> Iterator[PlannedShard]:
        self._consider(self._sharder.add(source_number, table))
        yield from ()

    def take_skipped(self) -> list[pa.Table]:
        """Rows that are not to be rendered are not part of a preview."""
        self._sharder.take_skipped()
        return []

    def finish(self) -> Iterator[PlannedShard]:
        self._consider(self._sharder.finish())
        whole = self._sharder.summary
        self._summary = Summary(problems=whole.problems, problem_codes=whole.problem_codes)
        number = 0
        for bucket, rows in self._picked().items():
            size = rows["batch_size"][0].as_py()
            for start in range(0, len(rows), size):
                part = rows.slice(start, size)
                part = replaced(part, "shard", pa.array([number] * len(part), pa.int32()))
                yield self._shard(number, part, size, bucket)
                number += 1

    def _shard(self, number: int, rows: pa.Table, batch_size: int, bucket: str) -> PlannedShard:
        tflop = self._tflop[bucket] * len(rows)
        count = self._summary.buckets.setdefault(bucket, BucketCount(batch_size=batch_size))
        count.images += len(rows)
        count.shards += 1
        count.tflop += tflop
        self._summary.images += len(rows)
        return PlannedShard(number, rows, batch_size, bucket, tflop)

    def _consider(self, shards: Iterable[PlannedShard]) -> None:
        for shard in shards:
            self._tflop[shard.label] = shard.cost_tflop / len(shard.rows)
            for cell in pc.unique(shard.rows["cell"]).to_pylist():
                kept = self._kept.setdefault((shard.label, cell), _Kept())
                rows = shard.rows.filter(pc.equal(shard.rows["cell"], cell))
                kept.images += len(rows)
                self._offer(kept, rows)
            level = depth([kept.images for kept in self._kept.values()], self._limit)
            if level < self._level:  # the level only falls: strata become more and larger, never fewer
                self._level = level
                for kept in self._kept.values():
                    kept.longest.trim(level)
                    kept.any.trim(level)

    def _offer(self, kept: _Kept, rows: pa.Table) -> None:
        names = [rows[name].to_pylist() for name in ("prompt_id", "sample_index", "tokens_t5", "image_id")]
        for at, (prompt_id, sample, tokens, image_id) in enumerate(zip(*names, strict=True)):
            # Without the cell: the cells of a sweep show the same prompts.
            chance = hashlib.blake2b(f"{prompt_id} {sample}".encode(), digest_size=8).digest()
            kept.any.offer((chance, image_id), rows, at, self._level)
            # First samples first: the longest prompt once rather than all its samples.
            kept.longest.offer((sample, -(tokens or 0), chance, image_id), rows, at, self._level)

    def _picked(self) -> dict[str, pa.Table]:
        """At most `limit` rows by bucket: one of each stratum, then a second of each, as far as there are any."""
        order = in_turn({stratum: kept.images for stratum, kept in self._kept.items()})
        buckets = list(dict.fromkeys(bucket for bucket, _ in order))
        ranked = {
            stratum: self._kept[stratum].ranked(longest_first=buckets.index(stratum[0]) % 2 == 0) for stratum in order
        }
        picked: dict[str, list[pa.Table]] = {}
        left = self._limit
        for turn in range(self._level):
            for stratum in order:
                if left and turn < len(ranked[stratum]):
                    picked.setdefault(stratum[0], []).append(ranked[stratum][turn])
                    left -= 1
        return {bucket: pa.concat_tables(tables) for bucket, tables in picked.items()}


def depth(counts: list[int], limit: int) -> int:
    """How many of each stratum are enough for `limit` rows in all, where a stratum cannot give more than it has."""
    return min(limit, bisect_left(range(limit + 1), limit, key=lambda each: sum(min(count, each) for count in counts)))


def in_turn(images: dict[Stratum, int]) -> list[Stratum]:
    """Strata so that the first few are of different buckets, largest first, and of different cells."""
    cells: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for (bucket, cell), count in sorted(images.items()):
        cells.setdefault(bucket, []).append(cell)
        sizes[bucket] = sizes.get(bucket, 0) + count
    buckets = sorted(sizes, key=lambda bucket: (-sizes[bucket], bucket))
    most = max(map(len, cells.values()), default=0)
    return [
        (bucket, cells[bucket][(turn + place) % len(cells[bucket])])
        for turn in range(most)
        for place, bucket in enumerate(buckets)
        if turn < len(cells[bucket])
    ]


NAME_DIGITS = 8  # of the fingerprint


def folder(out: str) -> str:
    """Where previews of a run lie. Raises Refused if the run is a whole bucket: nothing can lie beside it."""
    out = out.rstrip("/")
    if "/" not in out.partition("://")[2] and "://" in out:
        raise Refused(f"output.path {out}: is a whole bucket, and a preview lies beside the run. Name a folder in it.")
    return f"{out}-preview"


def prepare_preview(job: Job, limit: int) -> Prepared:
    """The job, checked as for its full run, with its output below folder(). Raises as preflight.prepare() does."""
    full = preflight.prepare(job)
    path = f"{folder(job.output.path)}/{limit}-{full.fingerprint[:NAME_DIGITS]}"
    return preflight.elsewhere(full, path, limit)
