"""A batch whose steps take over from steps before them (`sampling.reuse`), against the same batch without it.

What it does to pictures only real weights can show: these are random. Knows schedules, not how steps are computed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from on_gpu.model_in_hand import Model, Reference, rounded, spec_of
from on_gpu.rows_alike import max_difference

BLOCKS = {"blocks": {"blocks_every": 2}}
# Guidance that is reused halves batches in some steps: a second shape to compile. Eagerly it costs nothing to ask.
SCHEDULES: dict[str, dict[str, Any]] = {
    **BLOCKS,
    "guidance": {"guidance_every": 2},
    "blocks and guidance": {"blocks_every": 2, "guidance_every": 2},
}


def reused(model: Model, side: int) -> dict[str, Any]:
    """Each schedule, eagerly."""
    reference = model.reference(side)
    model.use({})
    return {name: reusing(model, reference, reuse, reference.latents) for name, reuse in SCHEDULES.items()}


def reusing(model: Model, reference: Reference, reuse: dict[str, Any], whole: torch.Tensor) -> dict[str, Any]:
    """whole: latents without reuse."""
    sampling = spec_of(model.size, {}, reuse).sampling
    rows = [replace(row, sampling=sampling) for row in reference.rows]
    seconds, latents = model.watch.timed(lambda: model.renderer.denoise(rows, reference.embeds))
    return {
        "reuse": reuse,
        "denoise_s_per_image": rounded(seconds / len(rows)),
        "max_difference": max_difference(latents, whole),
    }
