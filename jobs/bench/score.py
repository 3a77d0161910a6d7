"""What it costs to score a run: the bare model against `batchgen.evaluate.graph.score`, same pictures, same batches.

The bare loop has the pictures in memory. It decodes and prepares the next batches in as many threads while the model is
at work, and writes nothing. It is the ceiling. Both use all cores and take turns in new processes. Start-up is left
out: both are measured from the first shard's end to the last. The last line is JSON; score_share is the median over
rounds of batchgen's rate over the bare loop's of the same round, as speeds drift (1 is perfect, 0.9 the goal).

    python jobs/bench/score.py [--pictures 10000] [--rounds 3]
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
from pathlib import Path
from typing import Any

SCORER, BATCH, SIDE, PER_SHARD = "demo-clip", 32, 96, 100
AGAIN = 100  # pictures of a prompt: what a benchmark has is cells × samples, and its text is read once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=("bare", "batchgen"), help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps({"bare": bare, "batchgen": batchgen}[arguments.measure](arguments.out)))
        return
    rates: dict[str, list[float]] = {"bare": [], "batchgen": []}
    with tempfile.TemporaryDirectory() as folder:
        render(Path(folder), arguments.pictures)
        for _ in range(arguments.rounds):
            for name, found in rates.items():
                found.append(in_a_process(name, f"{folder}/run"))
                print(f"{name}: {found[-1]:.1f} pictures/s", flush=True)
    share = statistics.median(ours / bare for ours, bare in zip(rates["batchgen"], rates["bare"], strict=True))
    result = {f"{name}_pictures_per_s": [round(rate, 1) for rate in found] for name, found in rates.items()}
    print(
        json.dumps(
            {"score_share": round(share, 4)} | result | {"pictures": arguments.pictures, "cores": os.cpu_count()}
        )
    )


def in_a_process(name: str, out: str) -> float:
    command = [sys.executable, __file__, "--measure", name, "--out", out]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "RAY_AUTH_MODE": "disabled"}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return float(json.loads(output.splitlines()[-1]))


def render(folder: Path, pictures: int) -> None:
    """A run of noise, by the renderer of the tests: what a picture shows costs a scorer nothing."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from batchgen.job.file import job_from
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare
    from tests.in_process import render_here

    prompts = [json.dumps({"prompt": f"a red circle and {i} blue squares"}) for i in range(-(-pictures // AGAIN))]
    (folder / "prompts.jsonl").write_text("\n".join(prompts))
    job = {
        "input": {"path": f"{folder}/prompts.jsonl"},
        "model": {"preset": "fake"},
        "sampling": {"height": SIDE, "width": SIDE, "num_images_per_prompt": AGAIN},
        "output": {"path": f"{folder}/run", "images_per_shard": PER_SHARD},
    }
    render_here(make_plan(prepare(job_from(job)))[0])


def batchgen(out: str) -> float:
    """Pictures per second from the first stored shard to the last."""
    from batchgen.evaluate.desk import Done
    from batchgen.evaluate.graph import score
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store

    ends: list[tuple[float, int]] = []

    def note(done: Done) -> None:
        ends.append((time.perf_counter(), done.images))

    run = Run.open(Store.open(out))
    score(run, [SCORER], batch_size=BATCH, notify=note)
    for entry in run.store.list("scores"):
        run.store.delete(entry.path)  # the next round scores them again
    return sum(images for _, images in ends[1:]) / (ends[-1][0] - ends[0][0])


def bare(out: str) -> float:
    """The loop that a careful person would write."""
    from concurrent.futures import ThreadPoolExecutor

    from batchgen.demo import CLIP
    from batchgen.evaluate.scorers.cosines import ClipModel, own_preprocessing
    from batchgen.evaluate.scorers.models import find_model
    from batchgen.run import images

    files = find_model(str(CLIP))
    model, prepare = ClipModel(files, None), own_preprocessing(files)
    rows = list(pictures_of(out))
    batches = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]

    def ready(row: dict[str, Any]) -> Any:
        return prepare(images.decode(row["image"]["bytes"]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        coming = [[pool.submit(ready, row) for row in batch] for batch in batches[:3]]
        began, scored = 0.0, 0
        for number, batch in enumerate(batches):
            inputs = [one.result() for one in coming.pop(0)]
            if number + 3 < len(batches):
                coming.append([pool.submit(ready, row) for row in batches[number + 3]])
            texts, _ = model.texts([row["prompt"] for row in batch])
            (100 * (model.pictures(inputs) * texts).sum(dim=1)).tolist()
            if scored == 0 and (number + 1) * BATCH >= PER_SHARD:
                began, scored = time.perf_counter(), 1
            elif scored:
                scored += len(batch)
    return (scored - 1) / (time.perf_counter() - began)


def pictures_of(out: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for file in sorted(Path(out, "data").glob("*.parquet")):
        yield from pq.read_table(file, columns=["image", "prompt"]).to_pylist()


if __name__ == "__main__":
    main()
