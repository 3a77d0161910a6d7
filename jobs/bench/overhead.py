"""What it costs to be a system: the bare loop against `batchgen render`, same rows, same batches, one renderer.

The bare loop encodes, denoises and decodes; it writes no files, compresses nothing and knows no Ray. It is the ceiling
and is measured before and after batchgen, because this kind of machine is noisy. Both sides compute with one thread.
In steady state means: from the first committed shard to the last. The last line is JSON; throughput_share is
batchgen's rate over the bare loop's (1 is perfect, the issue asks for 0.95).

    python jobs/bench/overhead.py [--shards 16] [--steps 40]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH, BATCHES_PER_SHARD, SIDE = 4, 3, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(json.dumps(bare(arguments.bare)))
        return
    with tempfile.TemporaryDirectory() as folder:
        job, out = write_job(Path(folder), arguments.shards, arguments.steps)
        make_plan(job)
        before = bare_process(out)
        print(f"ceiling, bare loop: {before['images_per_s']:.3f} images/s, {before['batch_s']:.2f} s a batch")
        system = render_process(job, out)
        print(f"batchgen render:    {system['images_per_s']:.3f} images/s, start-up {system['start_up_s']:.1f} s")
        after = bare_process(out)
        print(f"bare loop, again:   {after['images_per_s']:.3f} images/s")
    ceiling = (before["images_per_s"] + after["images_per_s"]) / 2
    result = {
        "throughput_share": round(system["images_per_s"] / ceiling, 4),
        "bare_images_per_s": [round(run["images_per_s"], 4) for run in (before, after)],
        "batchgen_images_per_s": round(system["images_per_s"], 4),
        "batch_s": round(before["batch_s"], 3),
        "start_up_s": round(system["start_up_s"], 2),
        "images": system["images"],
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))


def write_job(folder: Path, shards: int, steps: int) -> tuple[Path, Path]:
    """A job of `shards` equal shards."""
    import yaml

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


def make_plan(job: Path) -> None:
    """Plan beforehand, so that the bare loop has the same batches and rendering starts with rendering."""
    from batchgen import plan
    from batchgen.config import load_job
    from batchgen.preflight import prepare

    plan.make(prepare(load_job(job)))


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
    from batchgen.models.renderer import ModelSpec, load_renderer
    from batchgen.run import Run
    from batchgen.storage import Store
    from batchgen.worker import image_rows

    run = Run.open(Store.open(out))
    (plan,) = run.plans
    renderer = load_renderer(ModelSpec(**plan.model))
    shards = [image_rows(run.rows(plan, item["file"], item["row_group"])) for item in run.index(plan).to_pylist()]
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
    from batchgen import shard
    from batchgen.run import Run, data_path
    from batchgen.storage import Store

    began = time.time()
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    run = Run.open(Store.open(str(out)))
    footers = []
    for number in sorted(run.committed()):
        with run.store.open_file(data_path(number)) as opened:
            footers.append(shard.read_footer(opened))
    footers.sort(key=lambda footer: footer.finished_at)
    seconds = footers[-1].finished_at - footers[0].finished_at
    images = sum(footer.images for footer in footers[1:])
    rate = images / seconds
    return {
        "images_per_s": rate,
        "start_up_s": footers[0].finished_at - began - footers[0].images / rate,
        "images": images,
    }


if __name__ == "__main__":
    main()
