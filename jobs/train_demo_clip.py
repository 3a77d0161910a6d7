"""Trains batchgen/demo/clip: a CLIP of transformers' own class that tells the demo's drawings from each other.

    python jobs/train_demo_clip.py [DIRECTORY] [--work out/train-demo-clip]

Draws scenes as it goes, in families that differ in one thing. Stop it at any time and run it again: it goes on from
`--work`. Uses the words of batchgen/demo/checkpoint, and a GPU where there is one. docs/demo.md says how long it took.
How far it agrees with the oracle on rendered pictures, jobs/bench/demo_scorers.py says.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Annotated

import torch
import typer
from demo_model.contrast import Contrast, families
from demo_model.loop import train
from demo_model.vocabulary import tokenizers

from batchgen.job.presets import DEMO_CHECKPOINT

SEED, RATE = 5, 1.5e-3


def export(contrast: Contrast, directory: Path) -> None:
    """A directory of transformers, in fp16: half the bytes."""
    contrast.clip.to("cpu", torch.float16).save_pretrained(directory, safe_serialization=True)
    contrast.processor.save_pretrained(directory)
    tokenizers()[0].save_pretrained(directory)  # a new one: that which was used would be saved with its padding
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    print(f"{directory}: {size / 1e6:.2f} MB, {sum(weight.numel() for weight in contrast.parameters()):,} parameters")


def main(
    directory: Annotated[Path, typer.Argument(help="Where the model goes.")] = DEMO_CHECKPOINT.parent / "clip",
    work: Annotated[Path, typer.Option(help="State to go on from, and the plot.")] = Path("out/train-demo-clip"),
    steps: Annotated[int, typer.Option(min=1)] = 550,
) -> None:
    """Train the demo's CLIP, or go on with it."""
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    contrast = Contrast(tokenizers()[0]).to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def step(number: int, random: Random, noise: torch.Generator) -> torch.Tensor:
        loss: torch.Tensor = contrast(families(random), random)
        return loss

    train("clip", contrast, step, steps, RATE, work)
    export(contrast, directory)


if __name__ == "__main__":
    typer.run(main)
