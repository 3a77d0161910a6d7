"""Attention alone in the shapes of the transformer, and the whole denoising, under each kernel that torch has here.

Knows which kernels there are from `engines.sd3.attention`, and nothing of compiling.
"""

from __future__ import annotations

from typing import Any

import torch
from on_gpu.ceiling import image_tokens
from on_gpu.model_in_hand import Model, rounded
from on_gpu.random_model import config_of
from on_gpu.rows_alike import max_difference
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from batchgen.engines.sd3.attention import NAMES, Attention
from batchgen.errors import BatchgenError

IN_TURNS = ("cudnn", "flash", "efficient")  # flash_3 takes the place of flash for the whole process: an experiment


def shapes(model: Model, side: int) -> dict[str, tuple[int, int, int, int]]:
    """(rows, heads, tokens, width) of a guided batch: image and text joined, and the image alone."""
    config, reference = config_of(model.size, "transformer"), model.reference(side)
    rows, image = 2 * len(reference.rows), image_tokens(side, config)
    heads, width = config["num_attention_heads"], config["attention_head_dim"]
    text = reference.embeds[0].positive.text.shape[0]
    return {"joint": (rows, heads, image + text, width), "image": (rows, heads, image, width)}


def alone(model: Model, side: int) -> dict[str, Any]:
    """TFLOP/s of one attention by kernel. chosen: what torch takes where nobody asks."""
    return {name: _shape(model, shape) for name, shape in shapes(model, side).items()}


def _shape(model: Model, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    rows, heads, tokens, width = shape
    query, key, value = (
        torch.randn((rows, tokens, heads, width), device=model.watch.device, dtype=model.dtype).transpose(1, 2)
        for _ in range(3)
    )
    flop = 4 * rows * heads * tokens**2 * width
    found: dict[str, Any] = {"chosen": NAMES[SDPBackend(torch._fused_sdp_choice(query, key, value))]}
    for backend, name in NAMES.items():
        if backend == SDPBackend.MATH and model.watch.device.type == "cuda":
            continue  # it would write all of (rows, heads, tokens, tokens)
        try:
            with sdpa_kernel(backend), torch.inference_mode():
                seconds = model.watch.median(lambda: scaled_dot_product_attention(query, key, value), 10, warm_ups=3)
            found[name] = rounded(flop / seconds / 1e12)
        except RuntimeError as error:
            found[name] = f"cannot: {str(error).strip().splitlines()[0][:80]}"
    return {"shape": list(shape), "tflop_per_s": found}


def denoising(model: Model, side: int) -> dict[str, Any]:
    """The batch that was rendered with torch's choice, again with each other kernel."""
    reference, renderer = model.reference(side), model.use({})
    usual, found = renderer.kernels.attention, dict[str, Any]()
    for name in IN_TURNS:
        if name == usual.name:
            continue
        try:
            renderer.kernels.attention = Attention.of(name, renderer.transformer, model.watch.device)
            warm = model.rows(side, len(reference.rows), steps=1)
            renderer.denoise(warm, reference.embeds)
            seconds, latents = model.watch.timed(lambda: renderer.denoise(reference.rows, reference.embeds))
        except BatchgenError as refusal:
            found[name] = {"left_out": str(refusal)}
        else:
            found[name] = {
                "denoise_s_per_image": rounded(seconds / len(reference.rows)),
                "max_difference": max_difference(latents, reference.latents),
            }
        finally:
            renderer.kernels.attention = usual
    auto = {"name": usual.name, "denoise_s_per_image": rounded(reference.denoise_s / len(reference.rows))}
    return {"auto": auto, **found}
