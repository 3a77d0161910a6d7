"""A run whose pictures are of one colour, stored without a renderer: whole, or with shards that are not there yet."""

from __future__ import annotations

import json
from pathlib import Path

from batchgen.finalize.proof import finalize
from batchgen.job.file import job_from
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import Run
from tests.one_colour import commit_shard


def planned(folder: Path, rows: list[dict], per_shard: int = 4, out: str = "run", **sections) -> Run:
    """Nothing of it is rendered."""
    manifest = folder / f"{out}.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "input": {"path": str(manifest)},
        "model": {"preset": "fake"},
        "sampling": {"height": 32, "width": 32},
        "output": {"path": str(folder / out), "images_per_shard": per_shard},
    }
    job = job_from({name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}})
    return make_plan(prepare(job))[0]


def store_shards(run: Run, numbers: list[int], failed: dict[int, list[bool]] | None = None) -> None:
    """failed: shard → which of its rows."""
    for plan in run.plans:
        for shard in run.shards(plan):
            if shard.number in numbers:
                commit_shard(run, plan, shard, failed=(failed or {}).get(shard.number, ()))


def stored(folder: Path, rows: list[dict], failed: dict[int, list[bool]] | None = None, **more) -> Run:
    """A run that is finished."""
    run = planned(folder, rows, **more)
    store_shards(run, list(range(run.next_shard)), failed)
    finalize(run)
    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
