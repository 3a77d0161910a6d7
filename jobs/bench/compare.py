"""batchgen beside what one would write instead: the same shuffled table, the demo checkpoint, one run.

Three sizes, two samples a prompt, a quarter of the rows without guidance, a tenth with skip-layer guidance. Each side
has a process of one thread for every core, and saves PNGs. Batch sizes of the others are the best of a trial each, and
batchgen's is that at which the ceiling is highest.
Rates are of the steady state (from 15 % to 95 % of the images); the whole time, start included, gives from how many
images on batchgen is done first. The ceiling, printed first, is batchgen's arithmetic alone, at the best batch of each
size, in as many processes.

The last line is JSON: share_of_ceiling, over_best_peer, break_even_images.

    python jobs/bench/compare.py [--prompts 150] [--steps 28] [--rounds 1]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
HERE = Path(__file__).parent
SIDES, SAMPLES, BATCHES = ((96, 96), (128, 96), (128, 128)), 2, (2, 4, 8)
PEERS = ("calls", "runs", "ray", "accelerate")
TRIAL = 32  # images of a peer's trial of a batch size
BEGIN, END = 0.15, 0.95  # the steady state, in shares of the images
Times = list[tuple[float, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=150)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ceiling", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ceiling:
        print(json.dumps(arithmetic(arguments.ceiling)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), arguments)))


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    job, rows = planned(folder, "run", arguments.prompts, arguments.steps)
    Path(folder, "rows.json").write_text(json.dumps(rows))
    Path(folder, "trial.json").write_text(json.dumps(rows[:TRIAL]))
    ceiling, batch = of_all_cores(folder / "run", rows)
    print(
        f"ceiling: {ceiling:.3f} images/s, the arithmetic alone; at one batch size for all, {batch} is best", flush=True
    )
    batches = {peer: best_batch(folder, peer) for peer in PEERS if peer != "calls"} | {"calls": SAMPLES}
    batches["batchgen"] = batch
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*PEERS, "batchgen")}
    for number in range(arguments.rounds):
        for name, results in found.items():
            out = folder / f"{name}-{number}"
            run = batchgen(job, out, batch) if name == "batchgen" else peer_run(folder, name, out, batches[name])
            results.append(run)
            print(f"{name} (batch {batches[name]}): {run}", flush=True)
    best = {name: max(results, key=lambda one: one["images_per_s"]) for name, results in found.items()}
    return summary(best, ceiling) | {"images": len(rows), "batches": batches, "cores": os.cpu_count(), "sides": best}


def summary(best: dict[str, dict[str, float]], ceiling: float) -> dict[str, Any]:
    ours = best["batchgen"]
    peer = max(PEERS, key=lambda name: best[name]["images_per_s"])
    return {
        "share_of_ceiling": round(ours["images_per_s"] / ceiling, 4),
        "over_best_peer": round(ours["images_per_s"] / best[peer]["images_per_s"], 4),
        "break_even_images": break_even(ours, [best[name] for name in PEERS]),
        "best_peer": peer,
        "ceiling_images_per_s": round(ceiling, 4),
    }


def break_even(ours: dict[str, float], others: list[dict[str, float]]) -> int | None:
    """From how many images on our whole time is below that of every other; None: never."""
    needed = 0.0
    for other in others:
        saved = 1 / other["images_per_s"] - 1 / ours["images_per_s"]  # by each image
        behind = ours["start_s"] - other["start_s"]
        if saved <= 0:
            return None
        needed = max(needed, behind / saved)
    return round(needed)


def planned(folder: Path, name: str, prompts: int, steps: int) -> tuple[Path, list[dict[str, Any]]]:
    """A job file, planned, and its image rows in the order of the shuffled table."""
    from batchgen.job.file import load_job
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare

    texts = [json.loads(line) for line in (ROOT / "jobs/configs/sweep-demo.jsonl").read_text().splitlines()]
    chosen, table = random.Random(0), []
    for number in range(prompts):
        height, width = SIDES[number % len(SIDES)]
        scales = {"guidance_scale": 1.0 if number % 4 == 3 else 4.5}
        scales["skip_layer_guidance_scale"] = 2.5 if number % 10 == 4 else 0.0
        text = texts[number % len(texts)]["prompt"]
        table.append({"id": f"p{number}", "prompt": text, "height": height, "width": width, **scales})
    chosen.shuffle(table)
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(map(json.dumps, table)))
    values = {
        "input": {"path": str(file)},
        "model": {"preset": "demo"},
        "sampling": {"num_inference_steps": steps, "num_images_per_prompt": SAMPLES},
        "output": {"path": str(folder / name), "images_per_shard": 8},
    }
    job_file = folder / f"{name}.yaml"
    job_file.write_text(yaml.safe_dump(values))
    run, _ = make_plan(prepare(load_job(job_file)))
    layers = run.plans[0].job.sampling.skip_guidance_layers
    rows = [row for shard in run.shards(run.plans[0]) for row in run.rows(run.plans[0], shard).to_pylist()]
    order = {row["id"]: place for place, row in enumerate(table)}
    kept = ("image_id", "prompt_id", "prompt", "height", "width", "num_inference_steps", "guidance_scale",
            "skip_layer_guidance_scale", "max_sequence_length", "seed")  # fmt: skip
    rows.sort(key=lambda row: (order[row["prompt_id"]], row["sample_index"]))
    return job_file, [{name: row[name] for name in kept} | {"skip_guidance_layers": layers} for row in rows]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1"}


def workers() -> int:
    return len(os.sched_getaffinity(0))


def of_all_cores(out: Path, rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Images a second of the arithmetic alone, in a process for each core at the same time, at each kind's best batch.

    And the batch size that is best where all kinds have the same.
    """
    command = [sys.executable, __file__, "--ceiling", str(out)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) for _ in range(workers())]
    rate, alike = 0.0, Counter[int]()
    for process in running:
        text, _ = process.communicate()
        seconds = {tuple(key): dict(zip(BATCHES, each, strict=True)) for key, each in json.loads(text.splitlines()[-1])}
        rate += len(rows) / sum(min(seconds[kind(row)].values()) for row in rows)
        alike.update({size: len(rows) / sum(seconds[kind(row)][size] for row in rows) for size in BATCHES})
    return rate, max(alike, key=lambda size: alike[size])


def kind(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["height"], row["width"], row["guidance_scale"] > 1, bool(row["skip_layer_guidance_scale"]))


def arithmetic(out: str) -> list[tuple[tuple[Any, ...], list[float]]]:
    """Seconds an image at each of BATCHES, by kind of row: encoded, denoised and decoded, and nothing else."""
    from batchgen.engines import load_renderer
    from batchgen.rendering.attempt import image_rows
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store
    from batchgen.weights.spec import spec_of

    run = Run.open(Store.open(out))
    (plan,) = run.plans
    renderer = load_renderer(spec_of(plan))
    best: dict[tuple[Any, ...], list[float]] = {}
    for shard in run.shards(plan):
        rows = image_rows(run.rows(plan, shard), plan.job)
        key = (rows[0].height, rows[0].width, rows[0].guidance_scale > 1, bool(rows[0].skip_layer_guidance_scale))
        if key in best:
            continue
        best[key] = []
        for size in BATCHES:
            batch, seconds = [rows[i % len(rows)] for i in range(size)], []
            for _ in range(3):
                began = time.perf_counter()
                embeds = renderer.encode(batch)
                pixels = renderer.decode(renderer.denoise(batch, embeds), range(size))
                seconds.append((time.perf_counter() - began) / len(pixels))
            best[key].append(min(seconds[1:]))
    return list(best.items())


def best_batch(folder: Path, peer: str) -> int:
    """Of a short trial of each size, by the rate without start."""
    tried = {
        size: peer_run(folder, peer, folder / f"trial-{peer}-{size}", size, "trial")["images_per_s"] for size in BATCHES
    }
    return max(tried, key=lambda size: tried[size])


def peer_run(folder: Path, peer: str, out: Path, batch: int, rows: str = "rows") -> dict[str, float]:
    from batchgen.job.presets import DEMO_CHECKPOINT

    arguments = [str(HERE / "peers.py"), peer, "--rows", str(folder / f"{rows}.json"), "--out", str(out)]
    arguments += ["--checkpoint", str(DEMO_CHECKPOINT), "--batch", str(batch), "--workers", str(workers())]
    began = time.time()
    if peer == "ray":
        commands = [[sys.executable, *arguments]]
    elif peer == "accelerate":
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers()}"]
        commands = [[*launch, *arguments]]
    else:
        commands = [[sys.executable, *arguments, "--worker", str(number)] for number in range(workers())]
    running = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    if any(process.wait() for process in running):
        sys.exit(f"{peer} failed: {' '.join(commands[0])}")
    times = [tuple(json.loads(line)) for file in out.glob("*.times") for line in file.read_text().splitlines()]
    return measured(began, time.time(), times)


def batchgen(job: Path, out: Path, batch: int) -> dict[str, float]:
    """The command as a user types it, planning included."""
    from batchgen.run.directory import Run
    from batchgen.run.layout import data_path
    from batchgen.run.shard_file import read_footer
    from batchgen.storage.store import Store

    values = yaml.safe_load(job.read_text())
    values["output"]["path"], values["model"]["batch_size"] = str(out), batch
    again = job.with_name(f"{out.name}.yaml")
    again.write_text(yaml.safe_dump(values))
    began = time.time()
    command = [sys.executable, "-m", "batchgen", "render", str(again)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(), cwd=ROOT)
    ended, run = time.time(), Run.open(Store.open(str(out)))
    footers = [read_footer(io.BytesIO(run.store.read(data_path(number)))) for number in run.committed()]
    return measured(began, ended, [(footer.finished_at, footer.images) for footer in footers])


def measured(began: float, ended: float, times: Times) -> dict[str, float]:
    """images_per_s of the steady state, wall_s, and start_s: what is left of the whole time."""
    counts: Counter[float] = Counter()
    for at, images in times:
        counts[at] += images
    total, done, first, last = sum(counts.values()), 0, (0.0, 0), (0.0, 0)
    for at in sorted(counts):
        done += counts[at]
        if done >= BEGIN * total and not first[1]:
            first = at, done
        if done >= END * total and not last[1]:
            last = at, done
    rate = (last[1] - first[1]) / (last[0] - first[0])
    wall = ended - began
    return {"images_per_s": round(rate, 4), "wall_s": round(wall, 2), "start_s": round(wall - total / rate, 2)}


if __name__ == "__main__":
    main()
