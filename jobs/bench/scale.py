"""What grows with the run: renderers, rows of a plan, shards to finalize. No GPU; the renderer is the fake one.

--part linear: shards of so many seconds, which the fake renderer sleeps, with one renderer and with many.
linear_N is the rate of N renderers over N times that of one, in steady state: each counts from its second shard, as the
first one's compression is late, to its last. idle_at_end_shards: how long the first renderer without work waits for
the last, in shards. started_within_s: between the first and the last renderer.
--part plan: prompt rows with one image each, few and many, planned by processes of their own. driver_gib_per_million:
what the larger plan's driver takes more, by the million rows that it has more. plan_rows_per_s: of the larger.
--part finalize: finalize_cold_ms, of a shard without a ledger, of real files with four small pictures each; finalize_s,
of a run whose ledger was written while it was rendered, of 25 images a shard. That finalize opens no data file, so the
files of that run are empty ones of the sizes that the ledger says.

Each part prints what it finds, and the last line is JSON of all, which --out keeps. A rate is a ratio to one measured
in the same command, but for the seconds of a plan and of a finalize: those want a machine that does nothing else.

    python jobs/bench/scale.py                                        # the whole: about an hour, 8 GB of disk
    python jobs/bench/scale.py --part linear --renderers 4 --shard-seconds 3
    python jobs/bench/scale.py --part plan --rows 20000 60000
    python jobs/bench/scale.py --part finalize --cold 200 --warm 2000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plan import in_a_process

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SHARDS_EACH = 6  # of every renderer
IMAGES_COLD, IMAGES_WARM = 4, 25  # a shard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), action="append", help="all parts, unless one is named")
    parser.add_argument("--renderers", type=int, default=64)
    parser.add_argument("--shard-seconds", type=float, default=20.0)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 10_000_000])
    parser.add_argument("--cold", type=int, default=40_000, help="shards without a ledger")
    parser.add_argument("--warm", type=int, default=400_000, help="shards with one")
    parser.add_argument("--out", type=Path, help="a JSON file, to which the parts that ran are added")
    parser.add_argument("--one", choices=sorted(ALONE), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(ALONE[arguments.one](arguments)))
        return
    result: dict[str, Any] = {"cores": os.cpu_count()}
    for part in arguments.part or PARTS:
        found = PARTS[part](arguments)
        print(json.dumps(found, indent=1), flush=True)
        result |= found
    if arguments.out:
        there = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        arguments.out.write_text(json.dumps(there | result, indent=1) + "\n")
    print(json.dumps(result))


def alone(what: str, arguments: argparse.Namespace, **changed: Any) -> dict[str, Any]:
    """Measured in a process of its own, so that its memory and its Ray are its own. Raises if it fails."""
    said = {name: value for name, value in vars(arguments).items() if name in ("renderers", "shard_seconds")} | changed
    options = [word for name, value in said.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, __file__, "--one", what, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def linear(arguments: argparse.Namespace) -> dict[str, Any]:
    one, many = (alone("render", arguments, renderers=count) for count in (1, arguments.renderers))
    share = many["shards_per_s"] / (arguments.renderers * one["shards_per_s"])
    return {f"linear_{arguments.renderers}": round(share, 4), "linear_runs": [one, many]}


def render(arguments: argparse.Namespace) -> dict[str, Any]:
    """The driver's own loop, listened to where receipts come in."""
    from rich.console import Console

    from batchgen.cluster.connection import connected, start_here
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare
    from batchgen.rendering import graph
    from batchgen.rendering.progress import Display, Tally

    count, seconds = arguments.renderers, arguments.shard_seconds
    heard, receipts_of = [], graph.receipts_of

    def listened(*given: Any) -> Iterator[Any]:
        for receipt in receipts_of(*given):
            heard.append((time.monotonic(), receipt))
            yield receipt

    graph.receipts_of = listened
    with tempfile.TemporaryDirectory() as folder:
        prompts = [f"{i} fake:slow={seconds}" for i in range(count * SHARDS_EACH)]
        cluster = {"renderers": {"min_size": count, "max_size": count}, "num_cpus": 1 / 64, "num_gpus": 0}
        prepared = prepare(fake_job(folder, prompts, 1, cluster=cluster))
        run, _ = make_plan(prepared)
        start_here(num_cpus=max(4, os.cpu_count() or 1), log_to_driver=False)
        with Display(Tally(len(prompts), 0, 0), Console(file=sys.stderr)) as display, connected(prepared.job.cluster):
            graph.render_missing(run, prepared.job, prepared.model, display)
    return {"renderers": count, "shard_s": seconds} | steady(heard, seconds)


def steady(heard: list[tuple[float, Any]], seconds: float) -> dict[str, Any]:
    """heard: receipts and when they came. Shards in a second while all are at work, and how long not all were."""
    times: dict[str, list[float]] = {}
    starts: dict[str, float] = {}
    for at, receipt in heard:
        times.setdefault(receipt.renderer, []).append(at)
        starts.setdefault(receipt.renderer, at - receipt.renderer_seconds)
    rates = [(len(found) - 2) / (found[-1] - found[1]) for found in times.values() if len(found) > 2]
    ends = [found[-1] for found in times.values()]
    return {
        "shards_per_s": sum(rates),
        "heard_of": len(times),
        "idle_at_end_shards": round((max(ends) - min(ends)) / seconds, 2),
        "started_within_s": round(max(starts.values()) - min(starts.values()), 1),
    }


def plan(arguments: argparse.Namespace) -> dict[str, Any]:
    start_up, small, large = (in_a_process(rows, samples=1) for rows in (64, *arguments.rows))
    more = large["driver_rss_gib"] - small["driver_rss_gib"]
    return {
        "plan_rows_per_s": round(large["rows"] / (large["seconds"] - start_up["seconds"])),
        "driver_gib_per_million": round(more / (large["rows"] - small["rows"]) * 1e6, 4),
        "plan_runs": [start_up, small, large],
    }


def finalize(arguments: argparse.Namespace) -> dict[str, Any]:
    cold = alone("cold", arguments, cold=arguments.cold)
    warm = alone("warm", arguments, warm=arguments.warm)
    return {
        "finalize_cold_ms": round(cold["seconds"] / cold["shards"] * 1000, 3),
        "finalize_s": round(warm["seconds"], 2),
        "finalize_runs": [cold, warm],
    }


def cold(arguments: argparse.Namespace) -> dict[str, Any]:
    """Shards with real pictures, and no ledger."""
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store
    from tests.one_colour import commit_shards

    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(Store.open(planned(folder, arguments.cold, IMAGES_COLD)))
        commit_shards(run, run.shards(run.plans[0]))
        return finalized(run.store.url)


def warm(arguments: argparse.Namespace) -> dict[str, Any]:
    """What lies there after rendering. By chance, so each file of the ledger is of shards from all over."""
    from batchgen.run import ledger
    from batchgen.run.directory import Run
    from batchgen.run.layout import data_path
    from batchgen.storage.store import Store

    with tempfile.TemporaryDirectory() as folder:
        url = planned(folder, arguments.warm, IMAGES_WARM)
        run = Run.open(Store.open(url))
        (plan,) = run.plans
        chosen = random.Random(0)
        size_of = {shard.number: 40_000_000 + shard.number for shard in run.shards(plan)}
        Path(url, "data").mkdir()
        for number, size in size_of.items():
            with Path(url, data_path(number)).open("wb") as file:
                file.truncate(size)
        ids: dict[int, list[str]] = {}
        for table in run.planned_columns(plan, ["shard", "image_id"]):
            for number, image_id in zip(table["shard"].to_pylist(), table["image_id"].to_pylist(), strict=True):
                ids.setdefault(number, []).append(image_id)
        order = list(ids)
        chosen.shuffle(order)
        with ledger.Writer(run.store) as writer:
            for number in order:
                writer.add(number, entry(plan, number, size_of[number], ids[number], chosen))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return finalized(url) | {"gib_before": before / 2**20}


def entry(plan: Any, number: int, size: int, ids: list[str], chosen: random.Random) -> Any:
    """As a renderer tells it: values that compress no better than real ones."""
    import pyarrow as pa

    from batchgen.run.ledger import SCHEMA

    constants = plan.constants() | {"device": "none", "versions": {}, "sigmas": [i / 40 for i in range(41)]}
    row = {
        "shard": number, "size": size, "plan": plan.plan, "attempt_id": f"{chosen.getrandbits(128):032x}",
        "constants": json.dumps(constants), "batch_size": 4, "planned_batch_size": 4, "image_height": 1024,
        "image_width": 1024, "attempt": 1, "error_code": None, "error_message": None, "suspect": None,
    }  # fmt: skip
    columns = {name: [value] * len(ids) for name, value in row.items()} | {
        "image_id": ids,
        "pixel_sha256": [f"{chosen.getrandbits(256):064x}" for _ in ids],
        "phash": [f"{chosen.getrandbits(64):016x}" for _ in ids],
        "render_seconds": [1.9 + chosen.random() / 100 for _ in ids],
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def finalized(url: str) -> dict[str, Any]:
    from batchgen.finalize.proof import finalize
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store

    run = Run.open(Store.open(url))
    began = time.perf_counter()
    totals = finalize(run)
    seconds = time.perf_counter() - began
    assert totals.images == run.planned
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"shards": run.next_shard, "images": totals.images, "seconds": seconds, "gib": memory}


def planned(folder: str, shards: int, images: int) -> str:
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare

    prompts = [f"{i} red circles left of a blue square, under a green star" for i in range(shards)]
    return str(make_plan(prepare(fake_job(folder, prompts, images)))[0].store)


def fake_job(folder: str, prompts: list[str], images: int, **sections: Any) -> Any:
    """A shard for each prompt, of so many images."""
    from batchgen.job.file import job_from

    Path(folder, "prompts.txt").write_text("\n".join(prompts))
    return job_from(
        {
            "input": {"path": f"{folder}/prompts.txt"},
            "model": {"preset": "fake", "batch_size": 1},
            "sampling": {"height": 32, "width": 32, "num_images_per_prompt": images},
            "output": {"path": f"{folder}/out", "images_per_shard": images},
            **sections,
        }
    )


PARTS = {"linear": linear, "plan": plan, "finalize": finalize}
ALONE = {"render": render, "cold": cold, "warm": warm}

if __name__ == "__main__":
    main()
