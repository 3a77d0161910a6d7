"""What else one would render a table of prompts with, as the documentation of each shows it: for jobs/bench/compare.py.

Each takes rows (prompt, height, width, steps, guidance, skip-layer scale, seed), renders them with diffusers, saves
PNGs, and notes in a file when how many were saved. Knows nothing of batchgen.

    calls       diffusers, a call for each row of the table with all its samples
    runs        diffusers, a call for rows that follow each other and have equal settings
    ray         map_batches over a class that calls the pipeline, with a batch's rows grouped by their settings
    accelerate  split_between_processes, each process with all its rows sorted by their settings
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SETTINGS = ("height", "width", "num_inference_steps", "guidance_scale", "skip_layer_guidance_scale")
Row = dict[str, Any]


class Pipeline:
    """diffusers on the CPU, with a generator for each image."""

    def __init__(self, checkpoint: str, out: str, worker: int) -> None:
        import diffusers
        import torch

        diffusers.utils.logging.disable_progress_bar()
        self.pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(checkpoint, torch_dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        self.out, self.times = Path(out), Path(out, f"{worker}-{os.getpid()}.times")

    def render(self, rows: list[Row]) -> None:
        """Rows of equal settings, one call."""
        import torch

        row, options = rows[0], {}
        if row["skip_layer_guidance_scale"]:
            options = {
                "skip_guidance_layers": row["skip_guidance_layers"],
                "skip_layer_guidance_scale": row["skip_layer_guidance_scale"],
            }
        images = self.pipe(
            prompt=[one["prompt"] for one in rows],
            negative_prompt=[""] * len(rows),
            height=row["height"],
            width=row["width"],
            num_inference_steps=row["num_inference_steps"],
            guidance_scale=row["guidance_scale"],
            max_sequence_length=row["max_sequence_length"],
            generator=[torch.Generator("cpu").manual_seed(one["seed"]) for one in rows],
            **options,
        ).images
        for one, image in zip(rows, images, strict=True):
            image.save(self.out / f"{one['image_id']}.png")
        with self.times.open("a") as file:
            file.write(json.dumps([time.time(), len(rows)]) + "\n")


def settings(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in SETTINGS)


def chunks(rows: Iterable[Row], most: int) -> Iterator[list[Row]]:
    """Neighbours of equal settings, at most so many."""
    for _, same in itertools.groupby(rows, settings):
        listed = list(same)
        yield from (listed[at : at + most] for at in range(0, len(listed), most))


def calls(rows: list[Row], pipeline: Pipeline, most: int) -> None:
    for _, samples in itertools.groupby(rows, lambda row: (row["prompt_id"], settings(row))):
        for part in chunks(samples, most):
            pipeline.render(part)


def runs(rows: list[Row], pipeline: Pipeline, most: int) -> None:
    for part in chunks(rows, most):
        pipeline.render(part)


def grouped(rows: list[Row], pipeline: Pipeline, most: int) -> None:
    for part in chunks(sorted(rows, key=settings), most):
        pipeline.render(part)


def on_ray(rows: list[Row], arguments: argparse.Namespace) -> None:
    import ray
    import ray.data

    class Predictor:
        def __init__(self) -> None:
            self.pipeline = Pipeline(arguments.checkpoint, arguments.out, 0)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            rows = [json.loads(text) for text in batch["row"]]
            grouped(rows, self.pipeline, arguments.batch)
            return {"image_id": [row["image_id"] for row in rows]}

    ray.init(address="local", include_dashboard=False, num_cpus=arguments.workers + 1, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items([{"row": json.dumps(row)} for row in rows], override_num_blocks=len(rows) // 8)
    done = dataset.map_batches(Predictor, batch_size=4 * arguments.batch, concurrency=arguments.workers, num_cpus=1)
    assert done.count() == len(rows)


def with_accelerate(rows: list[Row], arguments: argparse.Namespace) -> None:
    """In each of the processes that torchrun started."""
    from accelerate import PartialState

    state = PartialState(cpu=True)
    with state.split_between_processes(rows) as mine:
        grouped(mine, Pipeline(arguments.checkpoint, arguments.out, state.process_index), arguments.batch)
    state.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=("calls", "runs", "ray", "accelerate"))
    parser.add_argument("--rows", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    rows = json.loads(Path(arguments.rows).read_text())
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    if arguments.peer == "ray":
        on_ray(rows, arguments)
    elif arguments.peer == "accelerate":
        with_accelerate(rows, arguments)
    else:
        share = len(rows) / arguments.workers
        mine = rows[round(arguments.worker * share) : round((arguments.worker + 1) * share)]
        loop = {"calls": calls, "runs": runs}[arguments.peer]
        loop(mine, Pipeline(arguments.checkpoint, arguments.out, arguments.worker), arguments.batch)


if __name__ == "__main__":
    main()
