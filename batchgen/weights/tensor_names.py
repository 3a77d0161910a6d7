"""The tensors that a component must have, by name and shape, in the layout that ComfyUI and Stability's code read.

Computed from the component's diffusers or transformers config. The names are those that diffusers 0.42.1 converts from
(loaders/single_file_utils.py) and that transformers' CLIP and T5 have; tests compare both with the classes themselves.
Knows no files and imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Shape = tuple[int, ...]
Named = tuple[str, Shape]
FREQUENCIES = 256  # of a timestep's embedding; SD3Transformer2DModel, diffusers 0.42.1


def expected(component: str, config: Mapping[str, Any]) -> dict[str, Shape]:
    """Name → shape. Raises KeyError where the config does not say what it must."""
    return dict(_COMPONENTS[component](config))


def as_diffusers(vae: Mapping[str, Shape], levels: int) -> dict[str, Shape]:
    """The names and shapes of a VAE in diffusers' own layout, as `vae/diffusion_pytorch_model.safetensors` has them."""
    found = {}
    for name, shape in vae.items():
        attends = ".attn_1." in name and ".norm." not in name
        for pattern, said in _VAE_IN_DIFFUSERS:
            name = re.sub(pattern, said, name)
        name = re.sub(r"decoder\.up\.(\d+)\.", lambda found: f"decoder.up_blocks.{levels - 1 - int(found[1])}.", name)
        name = re.sub(r"block_(\d)\.", lambda found: f"resnets.{int(found[1]) - 1}.", name)
        is_linear = attends and len(shape) == 4  # there; here it is a 1 × 1 convolution
        found[name] = shape[:2] if is_linear else shape
    return found


def _transformer(config: Mapping[str, Any]) -> Iterator[Named]:
    """`model.diffusion_model.*`, without the prefix."""
    head = config["attention_head_dim"]
    width = head * config["num_attention_heads"]
    patch = config["patch_size"]
    yield "pos_embed", (1, config["pos_embed_max_size"] ** 2, width)
    yield from _affine("x_embedder.proj", (width, config["in_channels"], patch, patch))
    for name, inputs in (("t_embedder", FREQUENCIES), ("y_embedder", config["pooled_projection_dim"])):
        yield from _affine(f"{name}.mlp.0", (width, inputs))
        yield from _affine(f"{name}.mlp.2", (width, width))
    yield from _affine("context_embedder", (config["caption_projection_dim"], config["joint_attention_dim"]))
    normed = head if config.get("qk_norm") else 0
    last = config["num_layers"] - 1
    for layer in range(config["num_layers"]):
        block, dual = f"joint_blocks.{layer}", layer in (config.get("dual_attention_layers") or ())
        yield from _attention(f"{block}.x_block.attn", width, normed)
        if dual:
            yield from _attention(f"{block}.x_block.attn2", width, normed)
        yield from _stream(f"{block}.x_block", width, modulations=9 if dual else 6)
        # The text stream ends with the last block: it is read there, and nothing is written back to it.
        yield from _attention(f"{block}.context_block.attn", width, normed, projected=layer < last)
        yield from _stream(f"{block}.context_block", width, modulations=6 if layer < last else 2)
    yield from _affine("final_layer.linear", (patch * patch * config["out_channels"], width))
    yield from _affine("final_layer.adaLN_modulation.1", (2 * width, width))


def _attention(name: str, width: int, normed: int, *, projected: bool = True) -> Iterator[Named]:
    yield from _affine(f"{name}.qkv", (3 * width, width))
    if normed:
        yield f"{name}.ln_q.weight", (normed,)
        yield f"{name}.ln_k.weight", (normed,)
    if projected:
        yield from _affine(f"{name}.proj", (width, width))


def _stream(name: str, width: int, *, modulations: int) -> Iterator[Named]:
    yield from _affine(f"{name}.adaLN_modulation.1", (modulations * width, width))
    if modulations > 2:
        yield from _affine(f"{name}.mlp.fc1", (4 * width, width))
        yield from _affine(f"{name}.mlp.fc2", (width, 4 * width))


def _vae(config: Mapping[str, Any]) -> Iterator[Named]:
    """`first_stage_model.*`, without the prefix."""
    channels, latent, layers = config["block_out_channels"], config["latent_channels"], config["layers_per_block"]
    inner, last = channels[-1], len(channels) - 1
    yield from _affine("encoder.conv_in", (channels[0], config["in_channels"], 3, 3))
    before = channels[0]
    for level, width in enumerate(channels):
        for layer in range(layers):
            yield from _resnet(f"encoder.down.{level}.block.{layer}", width if layer else before, width)
        if level < last:
            yield from _affine(f"encoder.down.{level}.downsample.conv", (width, width, 3, 3))
        before = width
    yield from _middle("encoder", inner, 2 * latent)
    yield from _affine("decoder.conv_in", (inner, latent, 3, 3))
    before = inner
    for level in range(last, -1, -1):
        for layer in range(layers + 1):
            yield from _resnet(
                f"decoder.up.{level}.block.{layer}", channels[level] if layer else before, channels[level]
            )
        if level > 0:
            yield from _affine(f"decoder.up.{level}.upsample.conv", (channels[level], channels[level], 3, 3))
        before = channels[level]
    yield from _middle("decoder", inner, config["out_channels"], ends=channels[0])
    if config.get("use_quant_conv", True):
        yield from _affine("quant_conv", (2 * latent, 2 * latent, 1, 1))
    if config.get("use_post_quant_conv", True):
        yield from _affine("post_quant_conv", (latent, latent, 1, 1))


def _resnet(name: str, before: int, width: int) -> Iterator[Named]:
    yield from _affine(f"{name}.norm1", (before,))
    yield from _affine(f"{name}.conv1", (width, before, 3, 3))
    yield from _affine(f"{name}.norm2", (width,))
    yield from _affine(f"{name}.conv2", (width, width, 3, 3))
    if before != width:
        yield from _affine(f"{name}.nin_shortcut", (width, before, 1, 1))


def _middle(half: str, width: int, out: int, ends: int | None = None) -> Iterator[Named]:
    """The middle of the encoder or decoder, and its last convolution. ends: channels before that one."""
    yield from _resnet(f"{half}.mid.block_1", width, width)
    yield from _affine(f"{half}.mid.attn_1.norm", (width,))
    for name in ("q", "k", "v", "proj_out"):
        yield from _affine(f"{half}.mid.attn_1.{name}", (width, width, 1, 1))
    yield from _resnet(f"{half}.mid.block_2", width, width)
    yield from _affine(f"{half}.norm_out", (ends or width,))
    yield from _affine(f"{half}.conv_out", (out, ends or width, 3, 3))


def _clip(config: Mapping[str, Any]) -> Iterator[Named]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    yield "text_model.embeddings.token_embedding.weight", (config["vocab_size"], width)
    yield "text_model.embeddings.position_embedding.weight", (config["max_position_embeddings"], width)
    for layer in range(config["num_hidden_layers"]):
        block = f"text_model.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _affine(f"{block}.self_attn.{name}", (width, width))
        yield from _affine(f"{block}.layer_norm1", (width,))
        yield from _affine(f"{block}.layer_norm2", (width,))
        yield from _affine(f"{block}.mlp.fc1", (inner, width))
        yield from _affine(f"{block}.mlp.fc2", (width, inner))
    yield from _affine("text_model.final_layer_norm", (width,))
    yield "text_projection.weight", (config["projection_dim"], width)


def _t5(config: Mapping[str, Any]) -> Iterator[Named]:
    width, inner = config["d_model"], config["d_ff"]
    heads = config["d_kv"] * config["num_heads"]
    yield "shared.weight", (config["vocab_size"], width)
    for layer in range(config["num_layers"]):
        attention, dense = (f"encoder.block.{layer}.layer.{part}" for part in (0, 1))
        for name in ("q", "k", "v"):
            yield f"{attention}.SelfAttention.{name}.weight", (heads, width)
        yield f"{attention}.SelfAttention.o.weight", (width, heads)
        if layer == 0:  # all blocks share the first one's
            buckets = (config["relative_attention_num_buckets"], config["num_heads"])
            yield f"{attention}.SelfAttention.relative_attention_bias.weight", buckets
        yield f"{attention}.layer_norm.weight", (width,)
        for name, shape in (("wi_0", (inner, width)), ("wi_1", (inner, width)), ("wo", (width, inner))):
            yield f"{dense}.DenseReluDense.{name}.weight", shape
        yield f"{dense}.layer_norm.weight", (width,)
    yield "encoder.final_layer_norm.weight", (width,)


def _affine(name: str, weight: Shape) -> Iterator[Named]:
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


_VAE_IN_DIFFUSERS = (
    (r"\.block\.", ".resnets."),
    (r"encoder\.down\.", "encoder.down_blocks."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"\.mid\.", ".mid_block."),
    (r"\.attn_1\.norm\.", ".attentions.0.group_norm."),
    (r"\.attn_1\.(q|k|v)\.", r".attentions.0.to_\1."),
    (r"\.attn_1\.proj_out\.", ".attentions.0.to_out.0."),
    (r"coder\.norm_out\.", "coder.conv_norm_out."),
    (r"nin_shortcut", "conv_shortcut"),
)
_COMPONENTS = {
    "transformer": _transformer,
    "vae": _vae,
    "text_encoder": _clip,
    "text_encoder_2": _clip,
    "text_encoder_3": _t5,
}
