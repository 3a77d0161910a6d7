"""Trains batchgen/demo/checkpoint: Stable Diffusion 3.5 Medium's classes in small, drawing what the prompt says.

    python jobs/train_demo.py [DIRECTORY] [--work out/train-demo] [--start CHECKPOINT]

The autoencoder first, then the text encoders and the transformer together, on scenes drawn as it goes. Stop it at any
time and run it again: it goes on from `--work`, where it also plots its losses. With `--start` it begins with the
weights of a checkpoint: the autoencoder stays as it is, the rest is trained further. Uses a GPU where there is one.
docs/demo.md says how long it took, and on what. Knows nothing of batchgen but the demo's world and where it lies.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Annotated

import torch
import typer
from demo_model.autoencoder import normalize, train_autoencoder
from demo_model.denoiser import Denoiser, train_denoiser
from demo_model.vocabulary import tokenizers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

from batchgen.job.presets import DEMO_CHECKPOINT

SEED = 3


def export(vae: AutoencoderKL, denoiser: Denoiser, directory: Path) -> None:
    """A diffusers directory in fp16: half the bytes; loads as fp32 where that is asked for."""
    first, second, third = tokenizers()  # new ones: those that were used would be saved with their padding
    pipe = StableDiffusion3Pipeline(
        transformer=denoiser.transformer,
        vae=vae,
        text_encoder=denoiser.text_encoder,
        text_encoder_2=denoiser.text_encoder_2,
        text_encoder_3=denoiser.text_encoder_3,
        tokenizer=first,
        tokenizer_2=second,
        tokenizer_3=third,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
    )
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3):
        part.to("cpu", torch.float16, memory_format=torch.contiguous_format)
    pipe.save_pretrained(directory, safe_serialization=True)
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        file = directory / name / "config.json"  # without dtype=, transformers loads what stands here: all parts alike
        config = json.loads(file.read_text()) | {"dtype": "float32"}
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    parameters = sum(weight.numel() for weight in pipe.transformer.parameters())
    print(f"{directory}: {size / 1e6:.2f} MB, {parameters:,} parameters in the transformer")


def main(
    directory: Annotated[Path, typer.Argument(help="Where the checkpoint goes.")] = DEMO_CHECKPOINT,
    work: Annotated[Path, typer.Option(help="State to go on from, and the plots.")] = Path("out/train-demo"),
    autoencoder_steps: Annotated[int, typer.Option(min=1)] = 3300,
    denoiser_steps: Annotated[int, typer.Option(min=1)] = 8_600,
    start: Annotated[Path | None, typer.Option(help="A checkpoint whose weights to begin with.")] = None,
    batches: Annotated[int, typer.Option(min=1, help="Batches of 64 latents, drawn once and used many times.")] = 800,
) -> None:
    """Train the demo checkpoint, or go on with it."""
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(SEED)
    denoiser = Denoiser(tokenizers())
    if start:
        pipe = StableDiffusion3Pipeline.from_pretrained(start, dtype=torch.float32, use_safetensors=True)
        vae = pipe.vae.to(device)
        denoiser.begin_with(pipe)
    else:
        vae = train_autoencoder(autoencoder_steps, work, device)
        normalize(vae, Random(SEED))
    train_denoiser(denoiser.to(device), vae, denoiser_steps, batches, work)
    export(vae, denoiser, directory)


if __name__ == "__main__":
    typer.run(main)
