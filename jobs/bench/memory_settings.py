"""The ways to fit a checkpoint into less memory, each as a context that a pipeline is rendered in, and undone after.

Quantized weights are made from the pipeline's own, in memory, by the classes of the packages that keep them. Knows
nothing of timing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class Setting:
    """applied: (pipeline, device) → context. rebuilds: components that must be built anew afterwards.

    parks: the text encoders leave the device while rows are denoised and decoded. package: what it needs.
    """

    applied: Callable[[Any, torch.device], AbstractContextManager[None]]
    rebuilds: tuple[str, ...] = ()
    parks: bool = False
    package: str = ""

    @property
    def missing(self) -> str:
        """Why it cannot be tried here, or nothing."""
        installed = not self.package or importlib.util.find_spec(self.package)
        return "" if installed else f"{self.package} is not installed"


@contextmanager
def resident(pipe: Any, device: torch.device) -> Iterator[None]:
    yield


@contextmanager
def without_t5(pipe: Any, device: torch.device) -> Iterator[None]:
    encoder, pipe.text_encoder_3 = pipe.text_encoder_3, None
    encoder.to("cpu")
    try:
        yield
    finally:
        pipe.text_encoder_3 = encoder.to(device)


@contextmanager
def model_offload(pipe: Any, device: torch.device) -> Iterator[None]:
    """diffusers' own: whatever is called comes to the device, and the one before it leaves."""
    pipe.enable_model_cpu_offload(device=device)
    try:
        yield
    finally:
        pipe.remove_all_hooks()
        pipe.to(device)


@contextmanager
def vae_tiling(pipe: Any, device: torch.device) -> Iterator[None]:
    pipe.vae.enable_tiling()
    try:
        yield
    finally:
        pipe.vae.disable_tiling()


@contextmanager
def float8(pipe: Any, device: torch.device) -> Iterator[None]:
    """diffusers' layerwise casting: stored in 8 bits, computed in the dtype of the model."""
    pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, pipe.transformer.dtype)
    yield


def quantized(
    layer: Callable[[nn.Linear, torch.device], nn.Module], *parts: str
) -> Callable[[Any, torch.device], AbstractContextManager[None]]:
    """layer: a linear layer → its quantized twin."""

    @contextmanager
    def applied(pipe: Any, device: torch.device) -> Iterator[None]:
        for part in parts:
            model = getattr(pipe, part)
            replace_linear(model, lambda linear: layer(linear, device), kept_of(model))
        yield

    return applied


@contextmanager
def torchao_int8(pipe: Any, device: torch.device) -> Iterator[None]:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(pipe.transformer, Int8WeightOnlyConfig())
    yield


def kept_of(model: nn.Module) -> list[str]:
    """Layers that the quantizers of diffusers and transformers leave as they are: `wo` of T5, whose dtype matters."""
    return list(getattr(model, "_keep_in_fp32_modules", None) or [])


def replace_linear(model: nn.Module, replacement: Callable[[nn.Linear], nn.Module], kept: list[str]) -> None:
    """Every linear layer of a model, one after the other, so that both copies are there for one layer at most."""
    for name, child in model.named_children():
        if type(child) is nn.Linear and name not in kept:
            setattr(model, name, replacement(child))
        else:
            replace_linear(child, replacement, kept)


def _nf4(linear: nn.Linear, device: torch.device) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Params4bit

    dtype = linear.weight.dtype
    new = Linear4bit(*_shape(linear), compute_dtype=dtype, quant_type="nf4", device="meta")
    new.weight = Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4", module=new)
    new.bias = linear.bias
    return new.to(device)  # which quantizes


def _int8(linear: nn.Linear, device: torch.device) -> nn.Module:
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    new = Linear8bitLt(*_shape(linear), has_fp16_weights=False, threshold=6.0, device="meta")  # of LLM.int8()
    new.weight = Int8Params(linear.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
    new.bias = linear.bias
    return new.to(device)


def _shape(linear: nn.Linear) -> tuple[int, int, bool]:
    return linear.in_features, linear.out_features, linear.bias is not None


SETTINGS = {
    "all resident": Setting(resident),
    "text encoders parked": Setting(resident, parks=True),
    "no T5": Setting(without_t5),
    "model offload": Setting(model_offload, package="accelerate"),
    "VAE tiling": Setting(vae_tiling),
    "transformer in float8": Setting(float8, ("transformer",)),
    "transformer in NF4": Setting(quantized(_nf4, "transformer"), ("transformer",), package="bitsandbytes"),
    "transformer and T5 in NF4": Setting(
        quantized(_nf4, "transformer", "text_encoder_3"), ("transformer", "text_encoder_3"), package="bitsandbytes"
    ),
    "T5 in int8": Setting(quantized(_int8, "text_encoder_3"), ("text_encoder_3",), package="bitsandbytes"),
    "transformer in torchao int8": Setting(torchao_int8, ("transformer",), package="torchao"),
}
