"""What `sampling.reuse` saves and what it does to pictures: the demo checkpoint, held-out prompts, the pixel oracle.

Each batch is drawn under every schedule in turn, beginning with another one each time, so that a machine with other
work slows all alike: seconds are shares of those without reuse, the median over batches. The last line is JSON; for
each schedule, in shares of 1:

    passes      passes of a row through the transformer's blocks, of those without reuse
    seconds     seconds of denoising, of those without reuse
    right       pictures that show what the prompt says; lost, gained: right only without it, only with it
    changed     pixels that differ from those without reuse
    difference  how far pixels are from those without reuse, on average, of the whole range

"fewer steps" reuses nothing: it is what the same work buys without reuse. With --minutes, fewer prompts are drawn.

    python jobs/bench/reuse.py [--minutes M] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_quality import questions
from rich.console import Console
from rich.table import Table

from batchgen.demo.oracle import shows
from batchgen.engines import load_renderer
from batchgen.engines.protocol import ImageRow
from batchgen.job import Reuse, Sampling
from batchgen.job.file import job_from
from batchgen.rows.buckets import Bucket, block_passes
from batchgen.run.images import Pixels
from batchgen.weights.locate import locate
from batchgen.weights.spec import ModelSpec

RESULTS = Path(__file__).parent / "results" / "reuse.json"
STEPS, GUIDANCE, BATCH = 28, 4.5, 4
SIZES = (96, 96), (96, 128), (128, 128)  # by turns
FEWER = 17  # steps, about the work of the first schedule
SCHEDULES = {
    "none": Reuse(),
    "blocks_every: 2": Reuse(blocks_every=2),
    "blocks_every: 3": Reuse(blocks_every=3),
    "guidance_every: 2": Reuse(guidance_every=2),
    "blocks_every: 2, guidance_every: 2": Reuse(blocks_every=2, guidance_every=2),
    f"fewer steps: {FEWER}": Reuse(),
}


@dataclass
class Drawn:
    """Under one schedule: seconds of each batch; pixels of each picture, and whether it is right."""

    seconds: list[float] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=math.inf, help="No batch begins after so many.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Where the JSON is kept.")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = summary(draw(questions(), time.perf_counter() + 60 * asked.minutes))
    print_table(found)
    text = json.dumps(found)
    asked.out.write_text(text + "\n")
    print(text)


def draw(asked: list[dict[str, Any]], until: float) -> dict[str, Drawn]:
    """until: by time.perf_counter()."""
    job = job_from({"input": {"path": "unused"}, "output": {"path": "unused"}, "model": {"preset": "demo"}})
    renderer = load_renderer(ModelSpec.of(locate(job.model), job))
    drawn = {name: Drawn() for name in SCHEDULES}
    batches, names = batches_of(asked), [*SCHEDULES]
    for number, batch in enumerate(batches):
        if time.perf_counter() > until:
            break
        for name in names[number % len(names) :] + names[: number % len(names)]:
            rows = [row_of(question, name, job.sampling) for question in batch]
            embeds = renderer.encode(rows)
            began = time.perf_counter()
            latents = renderer.denoise(rows, embeds)
            drawn[name].seconds.append(time.perf_counter() - began)
            pictures = renderer.decode(latents, range(len(rows)))
            drawn[name].pixels += pictures
            drawn[name].right += [shows(one, question["scene"]) for one, question in zip(pictures, batch, strict=True)]
        print(f"{number + 1} of {len(batches)} batches", end="\r", flush=True)
    return drawn


def batches_of(asked: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Of one size each, the sizes by turns."""
    batches = [asked[at : at + BATCH] for at in range(0, len(asked), BATCH)]
    return [
        [question | {"height": height, "width": width, "seed": number * BATCH + place}
         for place, question in enumerate(batch)]
        for number, (batch, (height, width)) in enumerate(zip(batches, itertools.cycle(SIZES)))
    ]  # fmt: skip


def row_of(question: dict[str, Any], name: str, sampling: Sampling) -> ImageRow:
    return ImageRow(
        image_id=str(question["seed"]),
        prompt=question["prompt"],
        height=question["height"],
        width=question["width"],
        num_inference_steps=steps_of(name),
        guidance_scale=GUIDANCE,
        max_sequence_length=sampling.max_sequence_length,
        seed=question["seed"],
        sampling=sampling.model_copy(update={"reuse": SCHEDULES[name]}),
    )


def steps_of(name: str) -> int:
    return FEWER if name.startswith("fewer") else STEPS


def passes(name: str) -> int:
    """Of one image through the blocks."""
    job = job_from({"input": {"path": "unused"}, "output": {"path": "unused"}, "model": {"preset": "demo"}})
    key = Bucket.of(
        job.sampling.model_copy(update={"reuse": SCHEDULES[name]}), height=96, width=96,
        num_inference_steps=steps_of(name), guidance_scale=GUIDANCE, skip_layer_guidance_scale=0.0,
        max_sequence_length=job.sampling.max_sequence_length,
    )  # fmt: skip
    saved, whole = block_passes(key, None)
    return whole - saved


def summary(drawn: dict[str, Drawn]) -> dict[str, Any]:
    base = drawn["none"]
    found: dict[str, Any] = {"prompts": len(base.right), "steps": STEPS, "guidance_scale": GUIDANCE, "schedules": {}}
    for name, one in drawn.items():
        distances = [abs(a.astype(int) - b.astype(int)) for a, b in zip(one.pixels, base.pixels, strict=True)]
        ratios = [mine / without for mine, without in zip(one.seconds, base.seconds, strict=True)]
        found["schedules"][name] = {
            "passes": round(passes(name) / passes("none"), 3),
            "seconds": round(statistics.median(ratios), 3),
            "right": round(sum(one.right) / len(one.right), 4),
            "lost": sum(before > after for before, after in zip(base.right, one.right, strict=True)),
            "gained": sum(before < after for before, after in zip(base.right, one.right, strict=True)),
            "changed": round(float(np.mean([distance.any(axis=2).mean() for distance in distances])), 3),
            "difference": round(float(np.mean([distance.mean() for distance in distances])) / 255, 4),
        }
    return found


def print_table(found: dict[str, Any]) -> None:
    table = Table("reuse", "passes", "seconds", "right", "lost", "gained", "pixels changed", "difference", box=None)
    for name, one in found["schedules"].items():
        shares = [f"{one[key]:.1%}" for key in ("passes", "seconds", "right")]
        table.add_row(
            name, *shares, str(one["lost"]), str(one["gained"]), f"{one['changed']:.1%}", f"{one['difference']:.2%}"
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
