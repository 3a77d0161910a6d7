"""The autoencoder of the demo: what SD3's is, in small, trained on drawn scenes.

L1 on pixels and on their differences (edges stay sharp), a light pull of the latents towards unit variance. Knows the
world's drawings, not its prompts.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
from demo_model.loop import train
from diffusers import AutoencoderKL
from torch import Tensor

from batchgen.demo.world import SIDES, draw, random_scene

PIXELS = 24 * 64 * 64  # of a batch, whatever its size
KL = 2e-4


def autoencoder() -> AutoencoderKL:
    """Factor 8, 16 channels, as Stable Diffusion 3's; a hundredth of its weights."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=2,
        sample_size=160,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )


def random_size(random: Random) -> tuple[int, int]:
    """(height, width), multiples of 16 from 64 to 160, neither more than twice the other."""
    while True:
        height, width = random.choice(SIDES), random.choice(SIDES)
        if max(height, width) <= 2 * min(height, width):
            return height, width


def pixels_of(pictures: list[np.ndarray]) -> Tensor:
    """(batch, 3, height, width) from -1 to 1, channels last."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return (batch / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def train_autoencoder(steps: int, folder: Path, device: torch.device) -> AutoencoderKL:
    model = autoencoder().to(device, memory_format=torch.channels_last)

    def step(number: int, random: Random, noise: torch.Generator) -> Tensor:
        height, width = random_size(random)
        pictures = [draw(random_scene(random), height, width, random) for _ in range(PIXELS // (height * width))]
        pixels = pixels_of(pictures).to(device)
        latents = model.encode(pixels).latent_dist
        sample = latents.mean + latents.std * torch.randn(latents.mean.shape, generator=noise).to(device)
        drawn = model.decode(sample).sample.float()
        edges = sum((drawn.diff(dim=dim) - pixels.diff(dim=dim)).abs().mean() for dim in (2, 3))
        kl = 0.5 * (latents.mean.square() + latents.var - 1 - latents.logvar).float().mean()
        return (drawn - pixels).abs().mean() + edges + KL * kl

    train("autoencoder", model, step, steps, 2e-3, folder)
    return model


def normalize(model: AutoencoderKL, random: Random) -> None:
    """Sets `shift_factor` and `scaling_factor`, so that latents have mean 0 and standard deviation 1 over all."""
    latents = []
    for _ in range(40):
        height, width = random_size(random)
        pixels = pixels_of([draw(random_scene(random), height, width, random) for _ in range(8)])
        with torch.no_grad():
            latents.append(model.encode(pixels.to(model.device)).latent_dist.mean.flatten())
    values = torch.cat(latents)
    model.register_to_config(
        shift_factor=round(float(values.mean()), 4), scaling_factor=round(1 / float(values.std()), 4)
    )
