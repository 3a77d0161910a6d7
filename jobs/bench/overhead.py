"""What it costs to be a system: the bare loop against `batchgen render`, same rows, same batches, one renderer.

The bare loop encodes, denoises and decodes; it writes no files, compresses nothing and knows no Ray. It is the ceiling.
Both sides compute with one thread, and take turns in new processes: the speed of one process differs from the next by
up to 15 % on a machine like this, whatever the side, so that the medians are compared and the spread is printed. In
steady state means: from the second committed shard to the last. The last line is JSON; throughput_share is batchgen's
median rate over the bare loop's (1 is perfect, 0.95 is the goal).

    python jobs/bench/overhead.py [--rounds 3] [--shards 12] [--steps 40]
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
from pathlib import Path
from typing import Any

BATCH, BATCHES_PER_SHARD, SIDE = 4, 3, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(json.dumps(bare(arguments.bare)))
        return
    ceilings, systems = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            job, out = write_job(Path(folder, str(number)), arguments.shards, arguments.steps)
            plan_beforehand(job)
            ceilings.append(bare_process(out))
            print(f"bare loop, the ceiling: {ceilings[-1]['images_per_s']:.3f} images/s", flush=True)
            systems.append(render_process(job, out))
            print(f"batchgen render:        {systems[-1]['images_per_s']:.3f} images/s", flush=True)
    ceiling, system = (median(runs, "images_per_s") for runs in (ceilings, systems))
    result = {
        "throughput_share": round(system / ceiling, 4),
        "bare_images_per_s": [round(run["images_per_s"], 4) for run in ceilings],
        "batchgen_images_per_s": [round(run["images_per_s"], 4) for run in systems],
        "batch_s": round(median(ceilings, "batch_s"), 3),
        "start_up_s": round(median(systems, "start_up_s"), 2),
        "images": systems[0]["images"],
        "cores": os.cpu_count(),
    }
    print(f"start-up {result['start_up_s']} s, {result['batch_s']} s a batch of {BATCH}")
    print(json.dumps(result))


def median(runs: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(run[key] for run in runs))


def write_job(folder: Path, shards: int, steps: int) -> tuple[Path, Path]:
    """A job of `shards` equal shards."""
    import yaml

    folder.mkdir()
    prompts = [
        {"prompt": f"{i} red circles and {i + 1} blue squares"} for i in range(shards * BATCH * BATCHES_PER_SHARD)
    ]
    Path(folder, "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    job = {
        "input": {"path": f"{folder}/prompts.jsonl"},
        "model": {"preset": "demo", "batch_size": BATCH},
        "sampling": {"height": SIDE, "width": SIDE, "num_inference_steps": steps},
        "output": {"path": f"{folder}/out", "images_per_shard": BATCH * BATCHES_PER_SHARD},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path, folder / "out"


def plan_beforehand(job: Path) -> None:
    """Plan beforehand, so that the bare loop has the same batches and rendering starts with rendering."""
    from batchgen.job.file import load_job
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare

    make_plan(prepare(load_job(job)))


def environment() -> dict[str, str]:
    """One thread on each side: what Ray gives an actor of one CPU."""
    return os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1"}


def bare_process(out: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--bare", str(out)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment()).stdout
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured


def bare(out: str) -> dict[str, Any]:
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
        for at in range(0, len(rows), BATCH):
            batch = range(at, min(at + BATCH, len(rows)))
            latents = renderer.denoise([rows[i] for i in batch], [embeds[i] for i in batch])
            pixels = renderer.decode(latents, range(len(batch)))
            if number >= 1:
                images += len(pixels)
                batches += 1
    seconds = time.perf_counter() - started
    return {"images_per_s": images / seconds, "batch_s": seconds / batches, "images": images}


def render_process(job: Path, out: Path) -> dict[str, Any]:
    """The real command; the rate comes from the times in the footers of its shards."""
    from batchgen.run.directory import Run
    from batchgen.run.layout import data_path
    from batchgen.run.shard_file import read_footer
    from batchgen.storage.store import Store

    began = time.time()
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    run = Run.open(Store.open(str(out)))
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
