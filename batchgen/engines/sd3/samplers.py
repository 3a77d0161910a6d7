"""One step of denoising, by the names that ComfyUI gives its samplers; all see a rectified flow x = (1 - σ) x0 + σ ε.

The model says the velocity ε - x0, so x0 = x - σ × velocity. Sums are taken in fp32. Knows nothing of prompts, guidance
and models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class Sampler(Protocol):
    """Made for one batch: a sampler may remember what it saw."""

    def step(self, latents: Tensor, velocity: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
        """Latents at level `following` from those at `sigma`; both levels are fp32 scalars, following < sigma."""
        ...


class Euler:
    """FlowMatchEulerDiscreteScheduler.step of diffusers 0.42.1: the sum in fp32, then the model's dtype."""

    def step(self, latents: Tensor, velocity: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
        return (latents.float() + (following - sigma) * velocity).to(velocity.dtype)


class DPMPlusPlus2M:
    """The second order multistep solver of arXiv 2211.01095, as Stability's sd3.5 and k-diffusion write it.

    Their time is -log σ, not the flow's half log-SNR: the first order of the two is the same, Euler's; the second
    differs, and this one is what people compare with. Latents stay in fp32 between steps.
    """

    def __init__(self) -> None:
        self._before: tuple[Tensor, float] | None = None  # x0 and time of the last step

    def step(self, latents: Tensor, velocity: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
        latents = latents.float()
        x0 = latents - sigma * velocity.float()
        if float(following) == 0:
            return x0
        time, end = -math.log(float(sigma)), -math.log(float(following))
        direction = x0
        if self._before is not None:
            last_x0, last_time = self._before
            half_ratio = (end - time) / (time - last_time) / 2
            direction = (1 + half_ratio) * x0 - half_ratio * last_x0
        self._before = x0, time
        moved: Tensor = (following / sigma) * latents - math.expm1(time - end) * direction
        return moved


class EulerAncestral:
    """Euler to below the next level, then fresh noise up to it, as ComfyUI does for rectified flows (eta = 1).

    The noise keeps the mixture (1 - σ) x0 + σ ε what it is. Each row draws from its own generator, after its first
    noise, so that it does not depend on its neighbours. Latents stay in fp32 between steps.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = list(generators)

    def step(self, latents: Tensor, velocity: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
        latents = latents.float()
        x0 = latents - sigma * velocity.float()
        if float(following) == 0:
            return x0
        below = following * following / sigma
        part = below / sigma
        latents = part * latents + (1 - part) * x0
        shrink = (1 - following) / (1 - below)
        added = (following**2 - (below * shrink) ** 2).sqrt()
        noise = randn_tensor(latents.shape, generator=self._generators, device=latents.device, dtype=torch.float32)
        renoised: Tensor = shrink * latents + added * noise
        return renoised


def sampler_for(name: str, generators: Sequence[torch.Generator]) -> Sampler:
    if name == "euler":
        return Euler()
    return DPMPlusPlus2M() if name == "dpmpp_2m" else EulerAncestral(generators)
