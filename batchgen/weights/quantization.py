"""What the weights of a component take, in bytes: by dtype, and as each quantization stores them.

The rules are those of engines.sd3.quantize and of the libraries that it calls (bitsandbytes 0.50, torchao 0.18,
diffusers 0.42.1); tests hold both against real modules. Arithmetic on shapes: imports no torch.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator

from batchgen.errors import Problem, Refused
from batchgen.job import Model
from batchgen.weights.headers import Shapes

ELEMENT = {"bfloat16": 2, "float16": 2, "float32": 4}
EMBEDDINGS = ("token_embedding", "position_embedding", "shared", "embed_tokens", "relative_attention_bias")
# nn.Linear that bitsandbytes leaves alone: transformers keeps T5's `wo` in floating point, since T5 casts what goes in
# to the dtype of the weight, and a model's last layer.
KEPT_BY_BITSANDBYTES = ("wo", "text_projection")
# What SD3Transformer2DModel and layerwise_casting.DEFAULT_SKIP_MODULES_PATTERN of diffusers 0.42.1 leave alone. Of the
# text encoders only embeddings and norms, which are no nn.Linear, are left alone.
KEPT_BY_FLOAT8 = re.compile(r"pos_embed|patch_embed|norm|^proj_in$|^proj_out$")
BLOCK = re.compile(r"^((?:transformer_blocks|encoder\.block|text_model\.encoder\.layers)\.\d+)\.")

MULTIPLIED_IN_FP8 = re.compile(r"^transformer_blocks\.\d+\.(?!norm)")  # by kernels: compiled_fp8


def is_multiplied_in_fp8(module: str) -> bool:
    """Is this layer of the transformer, if it is linear, one that kernels: compiled_fp8 multiplies in fp8?"""
    return bool(MULTIPLIED_IN_FP8.search(module))


def is_linear(name: str, shape: tuple[int, ...]) -> bool:
    """Is this tensor the weight of an nn.Linear?"""
    module, _, kind = name.rpartition(".")
    return kind == "weight" and len(shape) == 2 and module.rpartition(".")[2] not in EMBEDDINGS


def is_quantized(kind: str | None, name: str, shape: tuple[int, ...]) -> bool:
    """Does a quantization of this kind store this weight in fewer bits? float8 is said of its module."""
    if kind is None or not is_linear(name, shape):
        return False
    module = name.removesuffix(".weight")
    if kind.startswith("bitsandbytes"):
        return module.rpartition(".")[2] not in KEPT_BY_BITSANDBYTES
    return kind != "float8" or not KEPT_BY_FLOAT8.search(module)


def stored(component: str, shapes: Shapes, dtype: str, kind: str | None) -> int:
    """Bytes of all tensors of a component, buffers included."""
    return sum(tensor_bytes(component, name, shapes, dtype, kind) for name in shapes)


def tensor_bytes(component: str, name: str, shapes: Shapes, dtype: str, kind: str | None) -> int:
    shape = shapes[name]
    count, element = math.prod(shape), ELEMENT[dtype]
    if is_quantized(kind, name, shape):
        return _quantized(str(kind), count, shape[0])
    weight = name.removesuffix(".bias") + ".weight"
    if kind == "float8" and name.endswith(".bias") and weight in shapes and is_quantized(kind, weight, shapes[weight]):
        return count  # layerwise casting takes the whole module
    if component == "text_encoder_3" and dtype == "float16" and name.endswith(".wo.weight"):
        return 4 * count  # T5EncoderModel._keep_in_fp32_modules
    positions = 8 * shape[0] if name.endswith("position_embedding.weight") else 0  # CLIP's position_ids, int64
    return count * element + positions


def _quantized(kind: str, count: int, rows: int) -> int:
    """Bytes of one weight: its numbers, then what they are multiplied with."""
    if kind == "bitsandbytes_4bit":  # one fp32 for 64 values, and the 16 fp32 values that 4 bits mean
        return -(-count // 2) + 4 * -(-count // 64) + 4 * 16
    if kind == "bitsandbytes_8bit":  # one fp32 a row
        return count + 4 * rows
    if kind == "torchao_int8":  # one fp32 a row, and a zero point of one byte
        return count + 5 * rows
    if kind == "torchao_float8":
        return count + 4 * rows
    return count


def streamed(component: str, shapes: Shapes, dtype: str, kind: str | None) -> int:
    """Bytes on the device when a component's blocks come and go one by one: all that is no block, and the largest."""
    blocks: dict[str, int] = {"": 0}
    for name in shapes:
        found = BLOCK.match(name)
        block = found[1] if found else ""
        blocks[block] = blocks.get(block, 0) + tensor_bytes(component, name, shapes, dtype, kind)
    return blocks.pop("") + max(blocks.values(), default=0)


def largest_unpacked(shapes: Shapes, dtype: str, kind: str | None) -> int:
    """Bytes of the largest weight that is unpacked to its dtype while a layer works; 0 where none is quantized."""
    counts = [math.prod(shape) for name, shape in shapes.items() if is_quantized(kind, name, shape)]
    return max(counts, default=0) * ELEMENT[dtype]


def refuse_unusable(model: Model) -> None:
    """Raises Refused with every setting of `quantization`, `offload` and `kernels` that cannot be carried out here."""
    chosen = model.quantization.model_dump(exclude_none=True)
    problems = []
    packages = {kind.partition("_")[0]: "model.quantization" for kind in chosen.values()}
    if model.kernels == "compiled_fp8":
        packages["torchao"] = "model.kernels"
    for package in sorted(packages.keys() & {"bitsandbytes", "torchao"}):
        if importlib.util.find_spec(package) is None:
            message = f"{package} is not installed: run `pip install 'batchgen[quantization]'` on every machine."
            problems.append(Problem(message, packages[package]))
    if chosen.get("transformer") == "float8" and model.adapters:
        message = "PEFT cannot multiply in float8, so no LoRA works on it: write torchao_float8 or another."
        problems.append(Problem(message, "model.quantization.transformer"))
    for component, kind in chosen.items():
        where = f"model.quantization.{component}"
        if kind == "bitsandbytes_8bit" and _is_parked(model, component):
            message = "bitsandbytes cannot move 8-bit weights back and forth: write torchao_int8, or offload: none."
            problems.append(Problem(message, where))
        if component == "text_encoder_3" and model.text_encoder_3 is None:
            problems.append(Problem("there is no T5 (text_encoder_3: null): leave this out.", where))
        if component == "text_encoder_3" and kind == "float8" and model.dtype_of(component) == "float16":
            # T5 has weights that overflow in fp16 and are kept in fp32 (diffusers #8604); casting back loses that
            problems.append(Problem("T5 cannot go from float8 to float16: write dtype: bfloat16.", where))
    if problems:
        raise Refused(problems)


def notices(model: Model) -> Iterator[str]:
    """What a setting does not do although its name might say so."""
    named = [name for name, kind in model.quantization.model_dump().items() if kind == "torchao_float8"]
    if named:
        yield (
            f"model.quantization.{' and '.join(named)}: torchao_float8 keeps weights in 8 bits and multiplies in "
            f"{model.dtypes}: it saves memory and costs time. Products of fp8 numbers are model.kernels: compiled_fp8."
        )


def _is_parked(model: Model, component: str) -> bool:
    return model.offload != "none" and (component != "transformer" or model.offload in ("model", "group"))
