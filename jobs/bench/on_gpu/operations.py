"""Single operations whose kernels could be better: norms of queries and keys, GELU behind a product, the VAE's decoder.

Each beside what eager diffusers does, with what it changes in the numbers. The VAE is compiled here, so its part runs
in a process of its own (`experiment`). Knows nothing of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.normalization import RMSNorm
from on_gpu.attention_kernels import shapes
from on_gpu.model_in_hand import Model, rounded
from on_gpu.random_model import build_part, config_of
from on_gpu.rows_alike import max_difference
from on_gpu.stopwatch import Stopwatch
from torch.nn import functional

REPEATS = 5


@torch.inference_mode()
def norms(model: Model, side: int) -> dict[str, Any]:
    """diffusers' RMSNorm and torch's, of the queries of the joint attention, heads in front and behind the tokens."""
    rows, heads, tokens, width = shapes(model, side)["joint"]
    norm = RMSNorm(width, eps=1e-6).to(model.watch.device, model.dtype)
    states = torch.randn((rows, heads, tokens, width), device=model.watch.device, dtype=model.dtype)
    layouts = {"heads first": states, "tokens first": states.transpose(1, 2).contiguous().transpose(1, 2)}
    return {name: _norm(model.watch, norm, numbers) for name, numbers in layouts.items()}


def _norm(watch: Stopwatch, norm: Any, numbers: torch.Tensor) -> dict[str, Any]:
    def torchs() -> torch.Tensor:
        return functional.rms_norm(numbers, norm.dim, norm.weight, norm.eps)

    return _two(watch, {"diffusers": lambda: norm(numbers), "torch": torchs})


@torch.inference_mode()
def gelu(model: Model, side: int) -> dict[str, Any]:
    """The first product of a feed-forward and its GELU: two kernels, or one that cuBLASLt has for both on a GPU."""
    config = config_of(model.size, "transformer")
    width = config["num_attention_heads"] * config["attention_head_dim"]
    rows, _, tokens, _ = shapes(model, side)["image"]
    states, weight, bias = (
        torch.randn(shape, device=model.watch.device, dtype=model.dtype)
        for shape in ((rows * tokens, width), (4 * width, width), (4 * width,))
    )
    weight = weight / width**0.5

    def apart() -> torch.Tensor:
        return functional.gelu(functional.linear(states, weight, bias), approximate="tanh")

    def together() -> torch.Tensor:
        return torch._addmm_activation(bias, states, weight.t(), use_gelu=True)

    return _two(model.watch, {"apart": apart, "together": together})


def _two(watch: Stopwatch, ways: dict[str, Callable[[], torch.Tensor]]) -> dict[str, Any]:
    found = {name: {"milliseconds": rounded(1e3 * watch.median(way, REPEATS))} for name, way in ways.items()}
    first, second = (way() for way in ways.values())
    return found | {"max_difference": max_difference(first, second)}


@torch.inference_mode()
def vae(watch: Stopwatch, size: str, dtype: torch.dtype, side: int) -> dict[str, Any]:
    """Decoding one image in each way, beside the first."""
    decoder: Any = build_part(size, "vae", watch.device, dtype)
    generator = torch.Generator().manual_seed(1)
    shape = (1, config_of(size, "vae")["latent_channels"], side // 8, side // 8)
    latents = torch.randn(shape, generator=generator).to(watch.device, dtype)
    plain, found = decoder.decode(latents, return_dict=False)[0], dict[str, Any]()

    def measure(name: str) -> None:
        seconds = watch.median(lambda: decoder.decode(latents, return_dict=False), REPEATS, warm_ups=2)
        image = decoder.decode(latents, return_dict=False)[0]
        found[name] = {"milliseconds": rounded(1e3 * seconds), "max_difference": max_difference(image, plain)}

    measure("as it is")
    if watch.device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        measure("deterministic")
        torch.backends.cudnn.deterministic = False
    decoder.to(memory_format=torch.channels_last)
    measure("channels last")
    decoder.decoder.compile(dynamic=False)
    measure("channels last, compiled")
    return found
