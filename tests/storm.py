"""Kills drivers, raylets and renderers of running commands at random, then counts what is wrong with the runs.

Knows processes and the files of a run, nothing of how it is rendered. `python jobs/bench/chaos.py --part kills` does it
200 times over disk and S3; tests/chaos/test_storm.py is the short version. Only processes started here are killed.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from batchgen.errors import BatchgenError
from batchgen.job.file import job_from
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import Run
from batchgen.run.layout import DATA
from batchgen.storage.store import Store
from tests.in_process import render_here

SHARDS, IMAGES = 150, 4  # of a run; images of a shard
PATIENCE_S = 240.0  # for a command that nobody kills any more


@dataclass
class Damage:
    """lost: images that are not there, failed ones too. twice: that are there more than once. changed: shards that
    were committed and became others, and images that are not a quiet run's. unreadable: files of data/ that cannot be
    read. stale_books: what doctor and status complain of."""

    kills: int = 0
    lost: int = 0
    twice: int = 0
    changed: int = 0
    unreadable: int = 0
    stale_books: int = 0

    @property
    def is_none(self) -> bool:
        return not any(count for name, count in asdict(self).items() if name != "kills")


def some_kills(count: int, chosen: random.Random) -> list[str]:
    """What to kill, in order: a fifth drivers, a tenth raylets, else renderers."""
    kinds = ["driver"] * (count // 5) + ["raylet"] * (count // 10)
    kinds += ["renderer"] * (count - len(kinds))
    chosen.shuffle(kinds)
    return kinds


def weather(folder: Path, place: str, kinds: list[str], chosen: random.Random, drivers: int = 1) -> Damage:
    """Runs below `place`, one after the other, until all of `kinds` are killed; each is then brought to its end.

    folder: for a table and job files. drivers: how many commands render the same run at the same time.
    """
    damage, left, quiet = Damage(), [*kinds], quiet_pixels(folder)
    number = 0
    while left:
        job, store = storm_job(folder, f"{place}/run-{number}"), Store.open(f"{place}/run-{number}")
        seen: dict[str, str] = {}
        complete = False
        while not complete:
            complete = _session(job, left, chosen, drivers, damage)
            now = _digests(store)
            damage.changed += sum(now.get(name) != digest for name, digest in seen.items())
            seen = now
        count(store, quiet, damage)
        number += 1
    return damage


def storm_job(folder: Path, out: str, **sections: dict[str, Any]) -> Path:
    """A job of SHARDS shards that takes some seconds. sections: what it says besides."""
    path = folder / f"job-{hashlib.sha256(out.encode()).hexdigest()[:8]}.yaml"
    path.write_text(yaml.safe_dump(_values(folder, out) | sections))
    return path


def _values(folder: Path, out: str) -> dict[str, Any]:
    table = folder / "prompts.jsonl"
    table.write_text("".join(json.dumps({"prompt": f"fake:slow=0.05 {i}"}) + "\n" for i in range(SHARDS * IMAGES)))
    return {
        "input": {"path": str(table)},
        "model": {"preset": "fake", "batch_size": IMAGES},
        "sampling": {"height": 32, "width": 32},
        "output": {"path": out, "images_per_shard": IMAGES},
        "cluster": {"renderers": {"min_size": 1, "max_size": 2}, "num_cpus": 1},
    }


def quiet_pixels(folder: Path) -> dict[str, str]:
    """Image → sha256 of its pixels, where nobody is killed."""
    run = make_plan(prepare(job_from(_values(folder, f"memory://quiet/{uuid.uuid4().hex}"))))[0]
    return _pixels(render_here(run).store)


def _session(job: Path, left: list[str], chosen: random.Random, drivers: int, damage: Damage) -> bool:
    """Start the command, and kill while it runs and there is something left to kill. Whether one ended with 0."""
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    running = [psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(drivers)]
    quiet_since = time.monotonic()
    while any(one.poll() is None for one in running):
        time.sleep(chosen.uniform(0.2, 2.0))
        if left and (victims := _victims(running, left[-1])):
            chosen.choice(victims).kill()
            left.pop()
            damage.kills += 1
            quiet_since = time.monotonic()
        if time.monotonic() - quiet_since > PATIENCE_S:
            for one in running:
                one.kill()
    return any(one.wait() == 0 for one in running)


def _victims(drivers: list[psutil.Popen], kind: str) -> list[psutil.Process]:
    """Renderers show themselves by the names that Ray gives to processes of actors."""
    alive = [driver for driver in drivers if driver.poll() is None]
    found: list[psutil.Process] = []
    for driver in alive:
        try:
            children = driver.children(recursive=True)
            names = {child: child.name() + " ".join(child.cmdline()[:1]) for child in children}
        except psutil.NoSuchProcess:
            continue
        renderers = [child for child, name in names.items() if "RenderShard" in name]  # not Ray's own agents
        if not renderers:
            continue  # it has only begun, or is at its end: nothing is at stake
        raylets = [child for child, name in names.items() if "raylet" in name]
        found += {"driver": [driver], "raylet": raylets, "renderer": renderers}[kind]
    return found


def _digests(store: Store) -> dict[str, str]:
    return {one.path: hashlib.sha256(store.read(one.path)).hexdigest() for one in store.list(DATA)}


def _pixels(store: Store) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in store.list(DATA):
        table = pq.read_table(pa.BufferReader(store.read(one.path)), columns=["image_id", "pixel_sha256"])
        found |= dict(zip(table["image_id"].to_pylist(), table["pixel_sha256"].to_pylist(), strict=True))
    return found


def count(store: Store, quiet: dict[str, str], damage: Damage) -> None:
    """Add what is wrong with a run that ended with 0."""
    found: Counter[str] = Counter()
    for one in store.list(DATA):
        try:
            table = pq.read_table(pa.BufferReader(store.read(one.path)), columns=["image_id", "pixel_sha256"])
        except (pa.ArrowInvalid, OSError):
            damage.unreadable += 1
            continue
        for image_id, pixels in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
            found[image_id] += 1
            damage.changed += quiet.get(image_id) != pixels
    damage.lost += len(quiet.keys() - found.keys())
    damage.twice += sum(count - 1 for count in found.values())
    try:
        run = Run.open(store)
        problems = [*doctor.examine(run).problems]
        problems += [] if status_of(run).complete else ["status: not complete"]
    except BatchgenError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"{store}: {problem}", file=sys.stderr)
    damage.stale_books += len(problems)
