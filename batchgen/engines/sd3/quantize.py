"""Weights in fewer bits: replaces the linear layers of a loaded component by those of bitsandbytes or torchao.

Layer by layer and on the device, after loading, in one way for every component and every source of weights: diffusers
refuses bitsandbytes without a GPU, its and transformers' loaders take their settings in two forms, and neither takes
single files. Which layers are left alone is theirs (weights.quantization); tests compare. Knows no prompts, no images.

Every kind keeps promise P2, that a row does not depend on its neighbours. Therefore no outliers: LLM.int8() with a
threshold picks columns by the values of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.hooks import apply_layerwise_casting
from diffusers.hooks.layerwise_casting import apply_layerwise_casting_hook
from torch import nn

from batchgen.weights.quantization import is_multiplied_in_fp8, is_quantized

FLOAT8 = torch.float8_e4m3fn
FEED_FORWARD = "DenseReluDense"  # of T5: it casts its input to the dtype of a weight, so the whole of it is one layer


def quantize(component: nn.Module, kind: str, dtype: torch.dtype, device: torch.device) -> None:
    """Store the linear layers of a component in fewer bits, in place. They lie on `device` afterwards.

    dtype: of the arithmetic. Raises ImportError where the package is not installed.
    """
    if kind == "float8":
        _store_in_float8(component, dtype)
        return
    for parent, name, linear in list(_linears(component, kind)):
        if kind.startswith("torchao"):
            _quantize_with_torchao(linear.to(device=device), kind)
        else:
            setattr(parent, name, _of_bitsandbytes(linear, kind, dtype).to(device))
    # What PEFT looks at before it puts an adapter on a layer of bitsandbytes.
    component.is_loaded_in_4bit = kind == "bitsandbytes_4bit"  # type: ignore[assignment]
    component.is_loaded_in_8bit = kind == "bitsandbytes_8bit"  # type: ignore[assignment]


def multiply_in_fp8(transformer: nn.Module, device: torch.device) -> None:
    """Numbers and weights of the blocks' linear layers become fp8 for the product, each row with a scale of its own.

    A scale for a whole tensor, torchao's default, would make a row depend on its neighbours. What is left alone, norms'
    modulation and all around the blocks, is little work and decides much. Raises ImportError without torchao.
    """
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_
    from torchao.quantization.quantize_.common import KernelPreference

    config = Float8DynamicActivationFloat8WeightConfig(
        granularity=PerRow(),
        kernel_preference=KernelPreference.TORCH,  # the same on each machine, whatever else is installed there
        set_inductor_config=False,  # which turns choosing by timing on
    )
    for path, module in list(transformer.named_modules()):
        if is_multiplied_in_fp8(path) and isinstance(module, nn.Linear):
            quantize_(module.to(device=device), config)


def _linears(component: nn.Module, kind: str) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for path, module in component.named_modules():
        if isinstance(module, nn.Linear) and is_quantized(kind, f"{path}.weight", tuple(module.weight.shape)):
            parent, _, name = path.rpartition(".")
            yield component.get_submodule(parent), name, module


def _quantize_with_torchao(linear: nn.Linear, kind: str) -> None:
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = Int8WeightOnlyConfig if kind == "torchao_int8" else Float8WeightOnlyConfig
    quantize_(linear, config(set_inductor_config=False))  # nothing is compiled here


def _of_bitsandbytes(linear: nn.Linear, kind: str, dtype: torch.dtype) -> Any:
    """The same layer as NF4 or int8, which is packed when it moves to a device, also when that is the CPU."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    size = (linear.in_features, linear.out_features, linear.bias is not None)
    layer: Any
    with torch.device("meta"):
        if kind == "bitsandbytes_4bit":
            layer = Linear4bit(*size, compute_dtype=dtype, compress_statistics=False, quant_type="nf4")
            # A CPU with AVX-512 bf16 would repack the weights in place at the first call, if their shape allows it.
            layer.support_avx512bf16_for_cpu = False
        else:
            layer = Linear8bitLt(*size, has_fp16_weights=False, threshold=0.0)
    settings: dict[str, Any] = {"has_fp16_weights": False}
    if kind == "bitsandbytes_4bit":
        settings = {"compress_statistics": False, "quant_type": "nf4", "module": layer}
    layer.weight = type(layer.weight)(linear.weight.data, requires_grad=False, **settings)
    layer.bias = linear.bias
    layer.train(linear.training)  # in training it computes with unpacked weights on a CPU
    return layer


def _store_in_float8(component: nn.Module, dtype: torch.dtype) -> None:
    """float8_e4m3fn at rest, dtype while a layer works: diffusers' layerwise casting."""
    if isinstance(component, ModelMixin):
        component.enable_layerwise_casting(storage_dtype=FLOAT8, compute_dtype=dtype)
        return
    # Embeddings stay: the first of them is what transformers calls the dtype of the model.
    skipped = ("norm", FEED_FORWARD)
    apply_layerwise_casting(component, FLOAT8, dtype, skipped, (nn.Embedding,))
    for name, module in component.named_modules():
        if name.rpartition(".")[2] == FEED_FORWARD:
            apply_layerwise_casting_hook(module, FLOAT8, dtype, False)
