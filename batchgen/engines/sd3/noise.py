"""The noise of a batch: drawn on the CPU, each row by a generator of its own, so that it is equal on all devices.

It may be drawn by any thread, while the device works at the batch before; then it lies in pinned memory, from which a
GPU copies without waiting. Knows rows, and no model but its number of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from diffusers.utils.torch_utils import randn_tensor

from batchgen.engines.protocol import ImageRow

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Noise:
    """drawn: (batch, 16, height/8, width/8) on the CPU. generators: one a row, which have drawn it, and go on."""

    drawn: torch.Tensor
    generators: list[torch.Generator]

    @classmethod
    def of(cls, rows: Sequence[ImageRow], channels: int, factor: int, dtype: torch.dtype, device: torch.device) -> Self:
        """factor: pixels per latent. device: that it is meant for."""
        generators = [torch.Generator("cpu").manual_seed(row.seed) for row in rows]
        shape = (len(rows), channels, rows[0].height // factor, rows[0].width // factor)
        return cls(draw(shape, generators, dtype, device), generators)

    def on(self, device: torch.device) -> torch.Tensor:
        return self.drawn.to(device, non_blocking=True)


def draw(shape: Shape, generators: list[torch.Generator], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """On the CPU, and pinned where the device is a GPU: `randn_tensor` of diffusers with a generator a row."""
    drawn: torch.Tensor = randn_tensor(shape, generator=generators, device=torch.device("cpu"), dtype=dtype)
    return drawn.pin_memory() if device.type == "cuda" else drawn
