"""What `python jobs/bench/chaos.py` times: a long run with a few shards missing, and one commit."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import yaml

from batchgen.job.file import load_job
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import commit
from batchgen.run.ledger import Writer
from batchgen.run.shard_file import Footer, build
from tests.one_colour import commit_shards, picture


def run_of(folder: Path, shards: int, missing: int, images: int = 1) -> Path:
    """The job file of a run with so many shards, the last of them not rendered yet. images: of each shard."""
    table, path = folder / f"{shards}.jsonl", folder / f"{shards}.yaml"
    table.write_text("".join(json.dumps({"prompt": f"prompt {i}"}) + "\n" for i in range(shards * images)))
    values = {
        "input": {"path": str(table)},
        "model": {"preset": "fake", "batch_size": images},
        "sampling": {"height": 32, "width": 32},
        "output": {"path": str(folder / f"run-{shards}"), "images_per_shard": images},
    }
    path.write_text(yaml.safe_dump(values))
    run = make_plan(prepare(load_job(path)))[0]
    done = run.shards(run.plans[0])[: shards - missing]
    with Writer(run.store) as ledger:  # as a driver that was ended has left it
        for shard, entry in zip(done, commit_shards(run, done) if done else [], strict=True):
            ledger.add(shard.number, entry)
    return path


def commit_pictures(folder: Path, images: int, size: int) -> float:
    """Seconds to assemble, prove and store one shard of so many pictures of `size` random bytes."""
    folder.mkdir()
    prepared = prepare(load_job(run_of(folder, 1, missing=1, images=images)))
    run = prepared.run
    assert run is not None
    plan = run.plans[0]
    (shard,) = run.shards(plan)
    rows = run.rows(plan, shard)
    pictures = [dataclasses.replace(picture(one), data=os.urandom(size)) for one in rows["image_id"].to_pylist()]
    constants = plan.constants() | {"device": "none", "versions": {}, "sigmas": [1.0, 0.0]}
    footer = Footer(
        shard=shard.number, plan=plan.plan, attempt_id="bench", attempt=1, finished_at=time.time(), images=images,
        failures={}, constants=constants,
    )  # fmt: skip
    began = time.perf_counter()
    commit(run.store, build(rows, pictures, footer), footer)
    return time.perf_counter() - began
