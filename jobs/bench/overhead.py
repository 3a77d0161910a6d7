"""What it costs to be a system: the bare loop against `batchgen render`, same rows, same batches, one renderer.

The bare loop encodes, denoises and decodes; it writes no files, compresses nothing and knows no Ray. It is the ceiling.
Both sides compute with one thread, and take turns in new processes: the speed of one process differs from the next by
up to 15 % on a machine like this, whatever the side, so that the medians are compared and the spread is printed. In
steady state means: from the second committed shard to the last. The last line is JSON; throughput_share is batchgen's
median rate over the bare loop's (1 is perfect, 0.95 is the goal).

--slow-store: the fake renderer at 50 ms a batch, shards of 100 batches, and a real S3 server behind a proxy that takes
300 ms for each request. The bare loop has the same renderer and no store. The key is slow_store_share.

    python jobs/bench/overhead.py [--rounds 3] [--shards 12] [--steps 40] [--slow-store]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Load:
    """What both sides render: batches a shard, the job's model, and what each prompt says."""

    batch: int
    batches: int
    side: int
    preset: str
    prompt: str


DEMO = Load(4, 3, 128, "demo", "{} red circles and {} blue squares")
SLOW_STORE = Load(4, 100, 32, "fake", "{} {} fake:slow=0.0125")  # each of four rows: 50 ms a batch
DELAY_S = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--slow-store", action="store_true")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    load = SLOW_STORE if arguments.slow_store else DEMO
    if arguments.bare:
        print(json.dumps(bare(arguments.bare, load.batch)))
        return
    ceilings, systems = [], []
    with tempfile.TemporaryDirectory() as folder, a_place(Path(folder), arguments.slow_store) as place:
        for number in range(arguments.rounds):
            out = f"{place}/run-{number}"
            job = write_job(Path(folder, str(number)), out, load, arguments.shards, arguments.steps)
            plan_beforehand(job)
            ceilings.append(bare_process(out, arguments.slow_store))
            print(f"bare loop, the ceiling: {ceilings[-1]['images_per_s']:.3f} images/s", flush=True)
            systems.append(render_process(job, out))
            print(f"batchgen render:        {systems[-1]['images_per_s']:.3f} images/s", flush=True)
    ceiling, system = (median(runs, "images_per_s") for runs in (ceilings, systems))
    result = {
        "slow_store_share" if arguments.slow_store else "throughput_share": round(system / ceiling, 4),
        "bare_images_per_s": [round(run["images_per_s"], 4) for run in ceilings],
        "batchgen_images_per_s": [round(run["images_per_s"], 4) for run in systems],
        "batch_s": round(median(ceilings, "batch_s"), 3),
        "start_up_s": round(median(systems, "start_up_s"), 2),
        "images": systems[0]["images"],
        "cores": os.cpu_count(),
    }
    print(f"start-up {result['start_up_s']} s, {result['batch_s']} s a batch of {load.batch}")
    print(json.dumps(result))


def median(runs: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(run[key] for run in runs))


@contextmanager
def a_place(folder: Path, slow: bool) -> Iterator[str]:
    """A URL below which runs lie: on this disk, or in S3, which then is far away."""
    if not slow:
        yield str(folder)
        return
    from jobs.bench.chaos import s3_bucket
    from tests.storage.faultproxy import faulty

    with s3_bucket(folder) as place:
        port = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
        with faulty(port, DELAY_S) as proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
            yield place


def write_job(folder: Path, out: str, load: Load, shards: int, steps: int) -> Path:
    """A job of `shards` equal shards."""
    import yaml

    folder.mkdir()
    images = load.batch * load.batches
    prompts = [{"prompt": load.prompt.format(i, i + 1)} for i in range(shards * images)]
    Path(folder, "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    job = {
        "input": {"path": f"{folder}/prompts.jsonl"},
        "model": {"preset": load.preset, "batch_size": load.batch},
        "sampling": {"height": load.side, "width": load.side, "num_inference_steps": steps},
        "output": {"path": out, "images_per_shard": images},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def plan_beforehand(job: Path) -> None:
    """Plan beforehand, so that the bare loop has the same batches and rendering starts with rendering."""
    from batchgen.job.file import load_job
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare

    make_plan(prepare(load_job(job)))


def environment() -> dict[str, str]:
    """One thread on each side: what Ray gives an actor of one CPU."""
    return os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1"}


def bare_process(out: str, slow_store: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--bare", out, *(["--slow-store"] if slow_store else [])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment()).stdout
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured


def bare(out: str, size: int) -> dict[str, Any]:
    """The loop a careful person would write: one renderer, the planned batches, nothing else."""
    from batchgen.engines import load_renderer
    from batchgen.rendering.attempt import image_rows
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store
    from batchgen.weights.spec import spec_of

    run = Run.open(Store.open(out))
    (plan,) = run.plans
    renderer = load_renderer(spec_of(plan))
    shards = [image_rows(run.rows(plan, shard), plan.job) for shard in run.shards(plan)]
    images = batches = 0
    started = 0.0
    for number, rows in enumerate(shards):
        if number == 1:  # the first shard warms up, as it does on the other side
            started = time.perf_counter()
        embeds = renderer.encode(rows)
        for at in range(0, len(rows), size):
            batch = range(at, min(at + size, len(rows)))
            latents = renderer.denoise([rows[i] for i in batch], [embeds[i] for i in batch])
            pixels = renderer.decode(latents, range(len(batch)))
            if number >= 1:
                images += len(pixels)
                batches += 1
    seconds = time.perf_counter() - started
    return {"images_per_s": images / seconds, "batch_s": seconds / batches, "images": images}


def render_process(job: Path, out: str) -> dict[str, Any]:
    """The real command; the rate comes from the times in the footers of its shards."""
    from batchgen.run.directory import Run
    from batchgen.run.layout import data_path
    from batchgen.run.shard_file import read_footer
    from batchgen.storage.store import Store

    began = time.time()
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    run = Run.open(Store.open(out))
    footers = []
    for number in sorted(run.committed()):
        with run.store.open_file(data_path(number)) as opened:
            footers.append(read_footer(opened))
    footers.sort(key=lambda footer: footer.finished_at)
    # The first shard is late: its compression also imports what it needs. Counting from it would flatter us.
    seconds = footers[-1].finished_at - footers[1].finished_at
    images = sum(footer.images for footer in footers[2:])
    rate = images / seconds
    return {
        "images_per_s": rate,
        "start_up_s": footers[0].finished_at - began - footers[0].images / rate,
        "images": images,
    }


if __name__ == "__main__":
    main()
