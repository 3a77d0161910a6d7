"""What `--retry-failed` plans: the rows that failed while rendering, as they were planned, in shards of their own.

Their batch sizes stay: an image depends on the shape that was planned for it. Rows that were skipped would be skipped
again. Knows plans and the footers of shards; no Ray, no manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

import batchgen
from batchgen import schema
from batchgen.plan.files import PlanFiles
from batchgen.plan.sharding import PlannedShard
from batchgen.run.directory import Run, owned_footer, read_shards
from batchgen.run.index import ShardRef
from batchgen.run.plans import Plan, are_among


@dataclass(frozen=True, slots=True)
class Group:
    """Failed rows that may share a shard: they were planned alike. full: rows of the largest shard of their bucket."""

    label: str
    batch_size: int
    full: int
    tflop_per_image: float


def plan_retry(run: Run) -> Run:
    """The run with a new generation of what failed, or as it is where nothing did, or a retry is not done yet."""
    run.refuse_adopted("tried again")
    newest = run.plans[-1]
    if newest.kind == "retry" and not {shard.number for shard in run.shards(newest)} <= run.committed():
        return run
    failed: dict[Group, list[pa.Table]] = {}
    for plan in run.plans:
        for group, rows in _failed(run, plan):
            failed.setdefault(group, []).append(rows)
    if not failed:
        return run
    tables = {group: pa.concat_tables(rows) for group, rows in failed.items()}
    extras = schema.extras_of(next(iter(tables.values())).schema)
    with PlanFiles(run.store, extras) as files:
        shards = list(_shards(tables, run.next_shard))
        for shard in shards:
            files.write(shard)
        files.replace([image_id for table in tables.values() for image_id in table["image_id"].to_pylist()])
        index, _ = files.finish()
        plan = replace(
            newest,
            generation=len(run.plans),
            kind="retry",
            plan=files.plan,
            batchgen=batchgen.__version__,
            images=sum(map(len, tables.values())),
            skipped_images=0,
            shards=len(shards),
            files=files.files,
            index=index,
            skipped=[],
            replaced=files.replaced,
        )
        ours = files.publish(plan)
    again = Run.open(run.store)
    return again if ours else plan_retry(again)  # what another command planned first is no retry of ours


def _failed(run: Run, plan: Plan) -> Iterator[tuple[Group, pa.Table]]:
    """Rows of the plan whose newest state is that rendering them failed."""
    replaced, committed = run.replaced_after(plan), run.committed()
    full: dict[str, int] = {}
    for shard in run.shards(plan):
        full[shard.label] = max(full.get(shard.label, 0), shard.rows)
    done = [shard for shard in run.shards(plan) if shard.number in committed]
    for shard, rows in zip(done, read_shards(done, partial(_failed_rows, run, plan, replaced)), strict=True):
        if len(rows):
            yield Group(shard.label, shard.batch_size, full[shard.label], shard.tflop_per_image), rows


def _failed_rows(run: Run, plan: Plan, replaced: set[str], shard: ShardRef) -> pa.Table:
    footer = owned_footer(run.store, shard.number, plan.plan)
    rows = run.rows(plan, shard)
    return rows.filter(are_among(footer.failures.keys() - replaced, rows))


def _shards(failed: dict[Group, pa.Table], number: int) -> Iterator[PlannedShard]:
    for group, rows in failed.items():
        at = rows.schema.get_field_index("shard")
        for start in range(0, len(rows), group.full):
            part = rows.slice(start, group.full)
            numbers = pa.array(np.full(len(part), number, np.int32))
            part = part.set_column(at, rows.field("shard"), numbers)
            yield PlannedShard(number, part, group.batch_size, group.label, group.tflop_per_image * len(part))
            number += 1
