"""What `--retry-failed` plans: the rows that failed while rendering, as they were planned, in shards of their own.

Their batch sizes stay: an image depends on the shape that was planned for it. Rows that were skipped would be skipped
again. Knows plans and the footers of shards; no Ray, no manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

import batchgen
from batchgen import schema
from batchgen.plan.files import PlanFiles
from batchgen.plan.sharding import Shard
from batchgen.run import plans
from batchgen.run.directory import READERS, Run, owned_footer, publish
from batchgen.run.plans import Plan

Bucket = tuple[str, int, int, float]  # name, batch size, rows of a full shard, TFLOP of an image


def plan_retry(found: Run) -> Run:
    """The run with a new generation of what failed, or as it is where nothing did, or a retry is not done yet."""
    newest = found.plans[-1]
    if newest.kind == "retry" and not set(found.index(newest)["shard"].to_pylist()) <= found.committed():
        return found
    failed: dict[Bucket, list[pa.Table]] = {}
    for plan in found.plans:
        for bucket, rows in _failed(found, plan):
            failed.setdefault(bucket, []).append(rows)
    if not failed:
        return found
    tables = [pa.concat_tables(rows) for rows in failed.values()]
    files = PlanFiles(found.store, schema.extras_of(tables[0].schema))
    try:
        shards = list(_shards(dict(zip(failed, tables, strict=True)), found.next_shard))
        for shard in shards:
            files.write(shard)
        files.replace([image_id for table in tables for image_id in table["image_id"].to_pylist()])
        index, _ = files.finish()
    except BaseException:
        files.discard()
        raise
    plan = replace(
        newest,
        generation=len(found.plans),
        kind="retry",
        plan=files.plan,
        batchgen=batchgen.__version__,
        images=sum(map(len, tables)),
        skipped_images=0,
        shards=len(shards),
        files=files.files,
        index=index,
        skipped=[],
        replaced=files.replaced,
    )
    if publish(found.store, plan).plan != plan.plan:
        files.discard()  # another driver was first, and its generation counts
    return Run.open(found.store)


def _failed(found: Run, plan: Plan) -> Iterator[tuple[Bucket, pa.Table]]:
    """Rows of the plan whose newest state is that rendering them failed."""
    replaced, committed = found.replaced_after(plan), found.committed()
    index = found.index(plan).to_pylist()
    full: dict[str, int] = {}
    for shard in index:
        full[shard["bucket"]] = max(full.get(shard["bucket"], 0), shard["rows"])
    done = [shard for shard in index if shard["shard"] in committed]
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(partial(_failed_rows, found, plan, replaced), done)
        for shard, rows in zip(done, read, strict=True):
            if len(rows):
                cost = shard["cost_tflop"] / shard["rows"]
                yield (shard["bucket"], shard["batch_size"], full[shard["bucket"]], cost), rows


def _failed_rows(found: Run, plan: Plan, replaced: set[str], shard: dict[str, Any]) -> pa.Table:
    footer = owned_footer(found.store, shard["shard"], plan.plan)
    rows = found.rows(plan, shard["file"], shard["row_group"])
    return rows.filter(plans.are_among(footer.failures.keys() - replaced, rows))


def _shards(failed: dict[Bucket, pa.Table], number: int) -> Iterator[Shard]:
    for (bucket, batch_size, full, cost), rows in failed.items():
        at = rows.schema.get_field_index("shard")
        for start in range(0, len(rows), full):
            part = rows.slice(start, full)
            numbers = pa.array(np.full(len(part), number, np.int32))
            yield Shard(number, part.set_column(at, rows.field("shard"), numbers), batch_size, bucket, cost * len(part))
            number += 1
