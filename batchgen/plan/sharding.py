"""Image rows in manifest order → shards of one bucket each, with a summary of all that went by.

Knows neither Ray nor files: `graph` feeds it and takes its shards. Holds one open shard per bucket, 16 bytes a
prompt row and 8 bytes a seed of the table, however long the manifest is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.columns import NOISES
from batchgen.errors import Problem, Refused
from batchgen.job import Job, Refine, steps
from batchgen.manifest.formats import place
from batchgen.manifest.sources import Sources
from batchgen.plan.extension import Extension
from batchgen.plan.occurrences import Occurrences
from batchgen.rows import buckets
from batchgen.rows.bucketing import BUCKET_COLUMNS, bucket_of
from batchgen.rows.buckets import Bucket
from batchgen.rows.expand import refused
from batchgen.rows.expansion import Expansion
from batchgen.rows.identity import repeated_prompt_id
from batchgen.rows.naming import reidentify, replaced
from batchgen.run.index import ShardRef
from batchgen.words import size

EXAMPLES = 5  # truncated prompts shown as examples


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """A full shard, or the last of its bucket. rows: schema.plan_schema, in the order in which they are rendered."""

    number: int
    rows: pa.Table
    batch_size: int
    label: str
    cost_tflop: float

    def ref(self, file: str, row_group: int) -> ShardRef:
        """Its row of the index, once it is written."""
        return ShardRef(
            number=self.number,
            file=file,
            row_group=row_group,
            rows=len(self.rows),
            batch_size=self.batch_size,
            height=self.rows["height"][0].as_py(),
            width=self.rows["width"][0].as_py(),
            label=self.label,
            cost_tflop=self.cost_tflop,
        )


@dataclass
class BucketCount:
    images: int = 0
    shards: int = 0
    batch_size: int = 0
    tflop: float = 0.0
    pixels: int = 0  # of all its images together
    key: Bucket | None = None


@dataclass
class Summary:
    """What a plan holds, for people. Counts are image rows unless they say otherwise."""

    prompts: int = 0
    images: int = 0
    skipped_images: int = 0
    snapped: int = 0
    beyond_training: int = 0  # of a size that the model can make, and its preset was not trained for
    buckets: dict[str, BucketCount] = field(default_factory=dict)
    cells: Counter[str] = field(default_factory=Counter)
    overflow: Counter[str] = field(default_factory=Counter)
    idle: Counter[str] = field(default_factory=Counter)  # asked for what does nothing without guidance
    same_noise: int = 0  # seeds of the job or the table, beside others of equal last 32 bits
    truncated: list[tuple[str, str, str]] = field(default_factory=list)  # prompt, encoder, the text that is cut
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)  # the first ones
    problem_codes: Counter[str] = field(default_factory=Counter)  # of all

    @property
    def tflop(self) -> float:
        return sum(bucket.tflop for bucket in self.buckets.values())

    @property
    def pixels(self) -> int:
        return sum(bucket.pixels for bucket in self.buckets.values())

    def refuse(self, code: str, problem: Callable[[], Problem]) -> None:
        """problem is made only if it will be shown: of a million of them, all but a hundred are numbers."""
        self.problem_codes[code] += 1
        if len(self.problems) < Refused.SHOWN:
            self.problems.append(problem())


class Sharder:
    """add() tables of manifest.expanded_schema in manifest order, then finish(); both yield finished shards."""

    def __init__(
        self,
        job: Job,
        expansion: Expansion,
        sources: Sources,
        extension: Extension | None = None,
        first_shard: int = 0,
    ) -> None:
        """extension: what of the rows is to be planned, where it is not all. first_shard: where numbers begin."""
        self.summary = Summary()
        self._job, self._expansion, self._sources, self._extension = job, expansion, sources, extension
        self._schema = schema.plan_schema(expansion.passed)
        self._occurrences = Occurrences()
        self._next = first_shard
        self._open: dict[str, list[pa.Table]] = {}
        self._last: tuple[int, int, str] | None = None  # source_number, prompt_row, prompt_id of the row before
        self._skipped: list[pa.Table] = []
        self._own_seeds: list[npt.NDArray[np.int64]] = []
        self._most: dict[str, int] = {}  # bucket → images of its shards that fit, where more are asked for

    def add(self, source_number: int, table: pa.Table) -> Iterator[PlannedShard]:
        """source_number: which source of the manifest the table comes from (one may come in several tables)."""
        if not len(table):
            return
        table = self._name_repeats(source_number, table)
        if self._extension is not None:
            table = self._extension.take(table)
        bad = pc.is_valid(table["skip_code"])
        if pc.any(bad).as_py():
            self._set_aside(table.filter(bad))
            table = table.filter(pc.invert(bad))
        self._count(table)
        for label, rows in _by_bucket(table):
            self._open.setdefault(label, []).append(rows)
            yield from self._full(label)

    def finish(self) -> Iterator[PlannedShard]:
        """The last, short shard of every bucket."""
        seeds = np.unique(np.concatenate([np.empty(0, np.int64), *self._own_seeds]))
        self.summary.same_noise = len(seeds) - len(np.unique(seeds % NOISES))
        for label in list(self._open):
            if waiting := self._open.pop(label):
                yield self._close(label, pa.concat_tables(waiting))
        if self._most:
            self.summary.refuse("SHARD_TOO_LARGE", self._too_large)

    def take_skipped(self) -> list[pa.Table]:
        """Rows that were set aside since the last call, as the plan stores them."""
        taken, self._skipped = self._skipped, []
        return taken

    def _name_repeats(self, source_number: int, table: pa.Table) -> pa.Table:
        """Give the second and later prompt rows of equal content a name of their own; equal `id`s are a mistake."""
        prompt_rows = table["prompt_row"].to_numpy()
        starts = np.flatnonzero(np.r_[True, prompt_rows[1:] != prompt_rows[:-1]])
        names = table["prompt_id"].take(pa.array(starts)).to_pylist()
        carried = self._last is not None and self._last[:2] == (source_number, int(prompt_rows[0]))
        counts = self._occurrences.count(names[1:] if carried else names)
        final = [repeated_prompt_id(name, int(n)) for name, n in zip(names[carried:], counts, strict=True)]
        if carried and self._last is not None:
            final.insert(0, self._last[2])
        self.summary.prompts += len(counts)
        if self._sources.own_ids:
            for at in np.flatnonzero(counts > 1).tolist():
                row, name = int(prompt_rows[starts[at + carried]]), names[at + carried]
                self.summary.refuse("DUPLICATE_ID", partial(self._twin, source_number, row, name))
            final = names
        self._last = (source_number, int(prompt_rows[-1]), final[-1])
        if final == names:
            return table
        lengths = np.diff(np.r_[starts, len(table)])
        names = [name for name, n in zip(final, lengths, strict=True) for _ in range(n)]
        return reidentify(table, names, self._expansion)

    def _twin(self, source_number: int, prompt_row: int, name: str) -> Problem:
        message = f"column id: {name!r} stands on an earlier row too. Give every row its own id, or drop the column."
        return Problem(message, place(self._sources.items[source_number], prompt_row), "DUPLICATE_ID")

    def _set_aside(self, bad: pa.Table) -> None:
        """Rows that will not be rendered: either they stop the job, or they stay in the plan with their reason."""
        before = None
        for row in bad.select(["skip_code", "skip_message", "where"]).to_pylist():
            self.summary.codes[row["skip_code"]] += 1
            # An overflowing prompt stands here once per image; it is one problem.
            if row != before and refused(row["skip_code"], self._job.errors):
                problem = partial(Problem, row["skip_message"], row["where"] or "", row["skip_code"])
                self.summary.refuse(row["skip_code"], problem)
            before = row
        self.summary.skipped_images += len(bad)
        said = pc.binary_join_element_wise(bad["where"].fill_null(""), bad["skip_message"], ": ")
        bad = replaced(bad, "skip_message", said)
        self._skipped.append(bad.select(self._schema.names).cast(self._schema))

    def _count(self, table: pa.Table) -> None:
        summary = self.summary
        summary.images += len(table)
        summary.cells.update({item["values"]: item["counts"] for item in pc.value_counts(table["cell"]).to_pylist()})
        for name in ("overflow_clip_l", "overflow_clip_g", "overflow_t5", "t5_over_256", "negative_overflow"):
            summary.overflow[name] += pc.sum(table[name]).as_py() or 0
        for name in ("idle_skip_layers", "idle_negative"):
            summary.idle[name] += pc.sum(table[name]).as_py() or 0
        own = table.filter(pc.invert(table["seed_derived"]))["seed"]
        self._own_seeds.append(np.unique(own.to_numpy()))
        summary.snapped += len(table) - table["requested_height"].null_count
        if trained := self._expansion.limits.trained:
            summary.beyond_training += int(np.sum(~trained.hold(table["height"].to_numpy(), table["width"].to_numpy())))
        for encoder in ("t5", "clip_l"):
            if len(summary.truncated) < EXAMPLES and table[f"truncated_{encoder}"].null_count < len(table):
                self._example(table, encoder)

    def _example(self, table: pa.Table, encoder: str) -> None:
        first = pc.and_(pc.is_valid(table[f"truncated_{encoder}"]), pc.equal(table["sample_index"], 0))
        for row in table.filter(first).slice(0, EXAMPLES).to_pylist():
            example = (row["prompt"], encoder, row[f"truncated_{encoder}"])
            if len(self.summary.truncated) < EXAMPLES and example not in self.summary.truncated:
                self.summary.truncated.append(example)

    def _full(self, label: str) -> Iterator[PlannedShard]:
        waiting = self._open[label]
        size = self._shard_size(waiting[0])
        if sum(map(len, waiting)) < size:
            return
        rows = pa.concat_tables(waiting)
        while len(rows) >= size:
            yield self._close(label, rows.slice(0, size))
            rows = rows.slice(size)
        self._open[label] = [rows] if len(rows) else []

    def _shard_size(self, rows: pa.Table) -> int:
        preset, wanted = self._job.model.defaults, self._job.output.images_per_shard
        key = self._key(rows)
        batch_size = self._batch_size(key, 2**31)
        if wanted != "auto":
            return -(-wanted // batch_size) * batch_size
        height, width = steps.refined_size(self._refine(key), key.height, key.width)
        return buckets.images_per_shard(preset, height, width, self._tflop(key), batch_size)

    def _too_large(self) -> Problem:
        label, most = min(self._most.items(), key=lambda item: item[1])
        message = (
            f"output.images_per_shard {self._job.output.images_per_shard}: shards of bucket {label} would be larger "
            f"than {size(buckets.SHARD_MOST_BYTES)}, and each is assembled in memory. Write {most} or less, or leave "
            "it out."
        )
        return Problem(message, code="SHARD_TOO_LARGE")

    def _tflop(self, key: Bucket) -> float:
        """Of one image, with its second pass if there is one."""
        tflop = buckets.image_tflop(self._job.model.defaults, key)
        refine = self._refine(key)
        return tflop + (buckets.refine_tflop(refine, self._job.models[1], key) if refine else 0.0)

    def _close(self, label: str, rows: pa.Table) -> PlannedShard:
        key = self._key(rows)
        height, width = steps.refined_size(self._refine(key), key.height, key.width)
        count = self.summary.buckets.setdefault(label, BucketCount())
        batch_size = count.batch_size or self._batch_size(key, len(rows))
        tflop = len(rows) * self._tflop(key)
        count.images += len(rows)
        count.shards += 1
        count.batch_size, count.key = batch_size, key
        count.tflop += tflop
        count.pixels += len(rows) * height * width
        most = buckets.most_per_shard(
            self._job.model.defaults, height, width, self._job.output.image_format, batch_size
        )
        if len(rows) > most and self._job.output.images_per_shard != "auto":
            self._most[label] = most
        number, self._next = self._next, self._next + 1
        return PlannedShard(number, self._planned(rows, number, batch_size), batch_size, label, tflop)

    def _planned(self, rows: pa.Table, number: int, batch_size: int) -> pa.Table:
        """rows as the plan stores them: with their shard and batch size, without the planner's own columns."""
        constant = {"shard": number, "batch_size": batch_size}
        columns = [
            pa.array(np.full(len(rows), constant[name], np.int32)) if name in constant else rows[name]
            for name in self._schema.names
        ]
        return pa.table(columns, schema=self._schema)

    def _batch_size(self, key: Bucket, rows: int) -> int:
        height, width = steps.refined_size(self._refine(key), key.height, key.width)
        fixed = self._job.model.batch_size
        models = self._job.models if self._refine(key) else (self._job.model,)
        return min(buckets.batch_size(model.defaults, height, width, rows, fixed) for model in models)

    def _refine(self, key: Bucket) -> Refine | None:
        return self._job.refine if key.refined else None

    def _key(self, rows: pa.Table) -> Bucket:
        """What the label of these rows says; all of them have the same."""
        (row,) = rows.slice(0, 1).select(BUCKET_COLUMNS).to_pylist()
        return bucket_of(self._expansion, row)


def _by_bucket(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """(label, rows) of each bucket, in order; buckets in order of their first row."""
    if not len(table):
        return
    encoded = table["bucket"].combine_chunks().dictionary_encode()
    for code, label in enumerate(encoded.dictionary.to_pylist()):
        yield label, table.filter(pc.equal(encoded.indices, code))
