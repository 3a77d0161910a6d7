"""Commits shards of pictures of one colour, without a renderer: for tests of everything but pictures."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby

import numpy as np
import pyarrow as pa

from batchgen.run import images
from batchgen.run.directory import Run, commit
from batchgen.run.index import ShardRef
from batchgen.run.ledger import read_entry
from batchgen.run.plans import Plan
from batchgen.run.shard_file import EncodedPicture, Failure, Footer, build
from batchgen.storage.store import Store


def commit_shards(run: Run, shards: Sequence[ShardRef]) -> list[pa.Table]:
    """Their entries of the ledger, for runs of thousands of shards: a process for each core, a plan file read once."""
    cores = os.cpu_count() or 1
    parts = [shards[len(shards) * core // cores : len(shards) * (core + 1) // cores] for core in range(cores)]
    with ProcessPoolExecutor(cores) as pool:
        return [entry for part in pool.map(_commit_all, [run.store.url] * cores, parts) for entry in part]


def _commit_all(url: str, shards: Sequence[ShardRef]) -> list[pa.Table]:
    run = Run.open(Store.open(url))
    (plan,) = run.plans
    entries = []
    for _, group in groupby(shards, key=lambda shard: shard.file):
        of_file, first = list(group), 0
        table = run.rows_of_file(plan, of_file)
        for shard in of_file:
            entries.append(commit_shard(run, plan, shard, rows=table.slice(first, shard.rows).combine_chunks()))
            first += shard.rows
    return entries


def commit_shard(
    run: Run, plan: Plan, shard: ShardRef, failed: Sequence[bool] = (), attempt_id: str = "", rows: pa.Table = None
):
    """Its entry of the ledger, if it is ours. failed: which of its rows did; none, if it is empty."""
    rows = run.rows(plan, shard) if rows is None else rows
    ids = rows["image_id"].to_pylist()
    fails = failed or [False] * len(ids)
    failures = {one: Failure("RENDER_ERROR", "by chance") for one, bad in zip(ids, fails, strict=True) if bad}
    constants = plan.constants() | {"device": "none", "versions": {}, "sigmas": [1.0, 0.0]}
    footer = Footer(
        shard=shard.number, plan=plan.plan, attempt_id=attempt_id or f"{random.random()}", attempt=1,
        finished_at=time.time(), images=len(ids) - len(failures), failures=failures, constants=constants,
    )  # fmt: skip
    pictures = [None if bad else picture(one) for one, bad in zip(ids, fails, strict=True)]
    data = build(rows, pictures, footer)
    return read_entry(io.BytesIO(data)) if commit(run.store, data, footer) == "committed" else None


def picture(image_id: str) -> EncodedPicture:
    pixels = np.full((32, 32, 3), int(image_id[:2], 16), np.uint8)
    values = {
        "batch_size": 1, "planned_batch_size": 1, "image_height": 32, "image_width": 32, "suspect": None,
        "pixel_sha256": images.pixel_sha256(pixels), "phash": "0" * 16, "render_seconds": 0.5, "attempt": 1,
    }  # fmt: skip
    return EncodedPicture(images.encode(pixels, "png"), f"{image_id}.png", values)
