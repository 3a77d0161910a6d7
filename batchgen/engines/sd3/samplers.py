"""One step of denoising, by the names that ComfyUI gives its samplers; all see a rectified flow x = (1 - σ) x0 + σ ε.

The model says the velocity ε - x0, so x0 = x - σ × velocity. Sums are taken in fp32. What depends on levels alone is
computed on the CPU, rounded as fp32 tensors would be: to read a level back, a device would wait in each step.
Knows nothing of prompts, guidance and models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from batchgen.engines.sd3.noise import draw


class Sampler(Protocol):
    """Made for one batch and its levels, (steps + 1) from 1 to 0: a sampler may remember what it saw."""

    def step(self, latents: Tensor, velocity: Tensor, step: int) -> Tensor:
        """Latents at the level after this step's from those at this step's."""
        ...


class Euler:
    """FlowMatchEulerDiscreteScheduler.step of diffusers 0.42.1: the sum in fp32, then the model's dtype.

    Its levels lie on the device, as diffusers has them: a GPU rounds their difference to the dtype of the velocity.
    """

    def __init__(self, levels: Tensor) -> None:
        self._levels = levels

    def step(self, latents: Tensor, velocity: Tensor, step: int) -> Tensor:
        distance = self._levels[step + 1] - self._levels[step]
        return (latents.float() + distance * velocity).to(velocity.dtype)


class DPMPlusPlus2M:
    """The second order multistep solver of arXiv 2211.01095, as Stability's sd3.5 and k-diffusion write it.

    Their time is -log σ, not the flow's half log-SNR: the first order of the two is the same, Euler's; the second
    differs, and this one is what people compare with. Latents stay in fp32 between steps.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        self._levels = levels
        self._before: tuple[Tensor, float] | None = None  # x0 and time of the last step

    def step(self, latents: Tensor, velocity: Tensor, step: int) -> Tensor:
        sigma, following = self._levels[step : step + 2]
        latents = latents.float()
        x0 = latents - sigma * velocity.float()
        if following == 0:
            return x0
        time, end = -math.log(sigma), -math.log(following)
        direction = x0
        if self._before is not None:
            last_x0, last_time = self._before
            half_ratio = (end - time) / (time - last_time) / 2
            direction = (1 + half_ratio) * x0 - half_ratio * last_x0
        self._before = x0, time
        ratio = float(np.float32(following) / np.float32(sigma))
        return ratio * latents - math.expm1(time - end) * direction


class EulerAncestral:
    """Euler to below the next level, then fresh noise up to it, as ComfyUI does for rectified flows (eta = 1).

    The noise keeps the mixture (1 - σ) x0 + σ ε what it is. Each row draws from its own generator, after its first
    noise, so that it does not depend on its neighbours. Latents stay in fp32 between steps. thread: draws the noise of
    a step while the device works at the one before.
    """

    def __init__(self, levels: Sequence[float], generators: list[torch.Generator], thread: Executor) -> None:
        self._levels, self._generators, self._thread = levels, generators, thread
        self._drawn: Future[Tensor] | None = None

    def step(self, latents: Tensor, velocity: Tensor, step: int) -> Tensor:
        sigma, following = (np.float32(level) for level in self._levels[step : step + 2])
        latents = latents.float()
        x0 = latents - float(sigma) * velocity.float()
        if following == 0:
            return x0
        one = np.float32(1)
        below = following * following / sigma
        part = below / sigma
        latents = float(part) * latents + float(one - part) * x0
        shrink = (one - following) / (one - below)
        added = np.sqrt(following * following - (below * shrink) * (below * shrink))
        return float(shrink) * latents + float(added) * self._noise(latents, step)

    def _noise(self, latents: Tensor, step: int) -> Tensor:
        """Drawn as often as it is needed and not once more: a second pass goes on with the same generators."""
        shape, device = latents.shape, latents.device
        drawn = self._drawn.result() if self._drawn else self._draw(shape, device)
        again = any(self._levels[step + 2 : step + 3])
        self._drawn = self._thread.submit(self._draw, shape, device) if again else None
        return drawn.to(device, non_blocking=True)

    def _draw(self, shape: torch.Size, device: torch.device) -> Tensor:
        return draw(tuple(shape), self._generators, torch.float32, device)


def sampler_for(name: str, levels: Tensor, generators: list[torch.Generator], thread: Executor) -> Sampler:
    """levels: (steps + 1) fp32. generators: one a row. thread: for who draws from them in every step."""
    if name == "euler":
        return Euler(levels)
    if name == "dpmpp_2m":
        return DPMPlusPlus2M(levels.tolist())
    return EulerAncestral(levels.tolist(), generators, thread)
