"""Promise P2 on a device: do a row's bits depend on its neighbours, its place in the batch, or the moment?

Compares a renderer with itself, and with diffusers' pipeline on the same embeddings. A few steps are enough: what
differs in the first step stays different. Knows nothing of timing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from batchgen.engines.protocol import ImageRow

STEPS = 4
GUIDANCE = 4.5


def make_rows(side: int, count: int, steps: int, tokens: int, *, first: int = 0, negative: str = "") -> list[ImageRow]:
    """Rows of one bucket with prompts and seeds of their own. first: number of the first one."""
    return [
        ImageRow(
            image_id=str(number),
            prompt=f"{number} red circles on {number + 1} blue squares, {'a long way down ' * (number % 4)}",
            negative_prompt=negative,
            height=side,
            width=side,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            max_sequence_length=tokens,
            seed=1000 + number,
        )
        for number in range(first, first + count)
    ]


def batch_alike(renderer: Any, side: int, batch_size: int, tokens: int) -> dict[str, bool]:
    """Of made-up rows of this size."""
    rows = make_rows(side, batch_size, STEPS, tokens)
    strangers = make_rows(side, batch_size, STEPS, tokens, first=500, negative="blurry")
    return embedded_alike(renderer, rows, renderer.encode(rows), strangers, renderer.encode(strangers))


def embedded_alike(
    renderer: Any, rows: Sequence[ImageRow], embeds: Sequence[Any], strangers: Sequence[ImageRow], theirs: Sequence[Any]
) -> dict[str, bool]:
    """Bit by bit: the same batch again, in another order, and its first row among others, in another place."""
    rows = _of_all_scales(rows)
    latents = renderer.denoise(rows, embeds)
    among = renderer.denoise([*strangers[1:], rows[0]], [*theirs[1:], embeds[0]])
    return {
        "again": torch.equal(latents, renderer.denoise(rows, embeds)),
        "order": torch.equal(latents, renderer.denoise(rows[::-1], embeds[::-1]).flip(0)),
        "neighbours": torch.equal(latents[0], among[-1]),
        "pixels": _same_pixels(renderer.decode(latents, [0]), renderer.decode(among, [len(rows) - 1])),
    }


def alone_difference(renderer: Any, side: int, batch_size: int, tokens: int) -> float:
    """The most that latents of a row in a batch of one differ from the same row's in the full batch.

    A batch of another shape is computed by other kernels: why the shape is part of what decides an image.
    """
    rows = _of_all_scales(make_rows(side, batch_size, STEPS, tokens))
    return max_difference(_latents(renderer, rows)[0], _latents(renderer, rows[:1])[0])


def texts_alike(renderer: Any, tokens: int) -> bool:
    """Embeddings of the same texts encoded among other texts, in another order."""
    rows, strangers = (make_rows(512, 3, STEPS, tokens, first=first) for first in (0, 500))
    renderer.prompts.cache.clear()
    first = renderer.encode(rows)
    renderer.prompts.cache.clear()
    again = renderer.encode([*strangers, *rows[::-1]])[3:][::-1]
    return all(
        torch.equal(one.positive.text, other.positive.text) and torch.equal(one.positive.pooled, other.positive.pooled)
        for one, other in zip(first, again, strict=True)
    )


def like_pipeline(renderer: Any, pipe: Any, side: int, batch_size: int, tokens: int) -> dict[str, Any]:
    """Latents of the same embeddings and noise in the same batch: ours against pipe()'s (promise P3)."""
    rows = make_rows(side, batch_size, STEPS, tokens)
    embeds = renderer.encode(rows)
    ours = renderer.denoise(rows, embeds)
    theirs = by_pipe(pipe, rows, embeds, output_type="latent")
    return {"identical": torch.equal(ours, theirs), "max_difference": max_difference(ours, theirs)}


def by_pipe(pipe: Any, rows: Sequence[ImageRow], embeds: Sequence[Any], output_type: str) -> torch.Tensor:
    """What diffusers' pipeline makes of rows of one bucket, whose texts are encoded already."""
    row = rows[0]
    with torch.no_grad():
        images: torch.Tensor = pipe(
            prompt_embeds=stacked(embeds, "positive", "text"),
            pooled_prompt_embeds=stacked(embeds, "positive", "pooled"),
            negative_prompt_embeds=stacked(embeds, "negative", "text"),
            negative_pooled_prompt_embeds=stacked(embeds, "negative", "pooled"),
            height=row.height,
            width=row.width,
            num_inference_steps=row.num_inference_steps,
            guidance_scale=row.guidance_scale,
            generator=generators(rows),
            output_type=output_type,
        ).images
    return images


def generators(rows: Sequence[ImageRow]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(row.seed) for row in rows]


def _of_all_scales(rows: Sequence[ImageRow]) -> list[ImageRow]:
    """With guidance that differs from row to row, as it may in a batch."""
    return [replace(row, guidance_scale=2.0 + number % 5) for number, row in enumerate(rows)]


def _latents(renderer: Any, rows: Sequence[ImageRow]) -> torch.Tensor:
    latents: torch.Tensor = renderer.denoise(rows, renderer.encode(rows))
    return latents


def stacked(embeds: Sequence[Any], side: str, part: str) -> torch.Tensor:
    return torch.stack([getattr(getattr(row, side), part) for row in embeds])


def _same_pixels(ours: list[Any], theirs: list[Any]) -> bool:
    return all(x is not None and y is not None and np.array_equal(x, y) for x, y in zip(ours, theirs, strict=True))


def max_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).abs().max())
