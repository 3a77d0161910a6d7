"""The tensors of SD3's components, name → shape, without loading any.

Of a preset they follow from its numbers, of a model whose weights are single files or elsewhere from its configs, of a
directory they stand in its headers. The names are those of diffusers 0.42.1 and transformers 5.23. Knows no bytes:
`quantization` says what a tensor takes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from batchgen.job.presets import Preset
from batchgen.weights.digests import read_json
from batchgen.weights.headers import Shapes

VAE_PARAMETERS = 83_819_683  # AutoencoderKL with 128, 256, 512, 512 channels and 16 latent ones, which all of SD3 share
DECODER_END = "decoder.up_blocks.3.resnets.0.norm1.weight"  # how many channels there are at full size
CAPTION, POOLED, TIME, PATCH = 4096, 2048, 256, 64  # joint_attention_dim, pooled_projection_dim, sinusoids, 16 × 2 × 2


def of_preset(preset: Preset) -> dict[str, Shapes]:
    """All five components of a published checkpoint."""
    return {
        "transformer": _transformer(preset),
        "vae": {"others": (VAE_PARAMETERS - 256,), DECODER_END: (256,)},
        "text_encoder": dict(_clip(768, 3072, 12)),
        "text_encoder_2": dict(_clip(1280, 5120, 32)),
        "text_encoder_3": dict(_t5()),
    }


def adaptable(directory: Path) -> dict[str, Shapes]:
    """Matrices of the components that LoRAs are for, by their configs; without those whose config is not there."""
    found: dict[str, Shapes] = {}
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        config = read_json(directory / part / "config.json")
        try:
            found[part] = _of_transformer(config) if part == "transformer" else dict(_of_clip(config))
        except (KeyError, TypeError):  # no config, or none of this architecture
            continue
    return found


def _of_transformer(config: dict[str, Any]) -> Shapes:
    width, patch = config["num_attention_heads"] * config["attention_head_dim"], config["patch_size"]
    dual, channels = set(config.get("dual_attention_layers") or ()), config["in_channels"]
    found: dict[str, tuple[int, ...]] = {"pos_embed.proj.weight": (width, channels, patch, patch)}
    sizes = (config["joint_attention_dim"], config["pooled_projection_dim"], patch * patch * channels)
    for name, rows, columns in _transformer_linears(config["num_layers"], dual, width, *sizes):
        found[f"{name}.weight"] = (rows, columns)
    return found


def _of_clip(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    sizes = (config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"])
    words, positions = config["vocab_size"], config["max_position_embeddings"]
    return _clip(*sizes, words, positions, config["projection_dim"])


def _transformer(preset: Preset) -> Shapes:
    """SD3Transformer2DModel. Its query and key norms, a few numbers each, are what is left of the preset's count."""
    layers, dual, width, parameters = preset.transformer
    found: dict[str, tuple[int, ...]] = {"pos_embed.proj.weight": (width, 16, 2, 2), "pos_embed.proj.bias": (width,)}
    for name, rows, columns in _transformer_linears(layers, set(range(dual)), width):
        found |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    found["norms"] = (parameters - sum(math.prod(shape) for shape in found.values()),)
    found["pos_embed.pos_embed"] = (1, (preset.max_side // 16) ** 2, width)  # a buffer, not a parameter
    return found


def _transformer_linears(
    layers: int, dual: Collection[int], width: int, caption: int = CAPTION, pooled: int = POOLED, patch: int = PATCH
) -> Iterator[tuple[str, int, int]]:
    """Name, output and input width of each nn.Linear. dual: which layers have a second attention."""
    for name, columns in (("timestep_embedder", TIME), ("text_embedder", pooled)):
        yield f"time_text_embed.{name}.linear_1", width, columns
        yield f"time_text_embed.{name}.linear_2", width, width
    yield "context_embedder", width, caption
    for layer in range(layers):
        block, last = f"transformer_blocks.{layer}", layer == layers - 1
        yield f"{block}.norm1.linear", (9 if layer in dual else 6) * width, width
        yield f"{block}.norm1_context.linear", (2 if last else 6) * width, width
        square = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"]
        square += ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"] + ([] if last else ["attn.to_add_out"])
        square += ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"] if layer in dual else []
        for name in square:
            yield f"{block}.{name}", width, width
        for name in ("ff",) if last else ("ff", "ff_context"):
            yield f"{block}.{name}.net.0.proj", 4 * width, width
            yield f"{block}.{name}.net.2", width, 4 * width
    yield "norm_out.linear", 2 * width, width
    yield "proj_out", patch, width


def _clip(
    width: int, inner: int, layers: int, words: int = 49408, positions: int = 77, projected: int | None = None
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """CLIPTextModelWithProjection."""
    yield "text_model.embeddings.token_embedding.weight", (words, width)
    yield "text_model.embeddings.position_embedding.weight", (positions, width)
    for layer in range(layers):
        block = f"text_model.encoder.layers.{layer}"
        sizes = [(f"self_attn.{name}_proj", width, width) for name in ("q", "k", "v", "out")]
        for name, rows, columns in [*sizes, ("mlp.fc1", inner, width), ("mlp.fc2", width, inner)]:
            yield f"{block}.{name}.weight", (rows, columns)
            yield f"{block}.{name}.bias", (rows,)
        yield f"{block}.layer_norms", (4 * width,)
    yield "text_model.final_layer_norm", (2 * width,)
    yield "text_projection.weight", (projected or width, width)


def _t5() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The encoder of T5 v1.1 XXL."""
    width, inner, heads = 4096, 10240, 64
    yield "shared.weight", (32128, width)
    for layer in range(24):
        block = f"encoder.block.{layer}.layer"
        for name in "qkvo":
            yield f"{block}.0.SelfAttention.{name}.weight", (width, width)
        for name in ("wi_0", "wi_1"):
            yield f"{block}.1.DenseReluDense.{name}.weight", (inner, width)
        yield f"{block}.1.DenseReluDense.wo.weight", (width, inner)
        yield f"{block}.layer_norms", (2 * width,)
    yield "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, heads)
    yield "encoder.final_layer_norm.weight", (width,)
