"""The demo checkpoint as ComfyUI keeps models: a checkpoint file and text encoders, written from diffusers' layout.

The inverse of diffusers' own conversion (loaders/single_file_utils.py, 0.42.1), in the words of the original code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.weights.contents import INSIDE

Tensors = dict[str, torch.Tensor]
ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3"}

OUTSIDE = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj.": "x_embedder.proj.",
    "time_text_embed.timestep_embedder.linear_1.": "t_embedder.mlp.0.",
    "time_text_embed.timestep_embedder.linear_2.": "t_embedder.mlp.2.",
    "time_text_embed.text_embedder.linear_1.": "y_embedder.mlp.0.",
    "time_text_embed.text_embedder.linear_2.": "y_embedder.mlp.2.",
    "context_embedder.": "context_embedder.",
    "proj_out.": "final_layer.linear.",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.",
}
IN_BLOCK = {
    "attn.norm_q.": "x_block.attn.ln_q.",
    "attn.norm_k.": "x_block.attn.ln_k.",
    "attn.norm_added_q.": "context_block.attn.ln_q.",
    "attn.norm_added_k.": "context_block.attn.ln_k.",
    "attn.to_out.0.": "x_block.attn.proj.",
    "attn.to_add_out.": "context_block.attn.proj.",
    "attn2.norm_q.": "x_block.attn2.ln_q.",
    "attn2.norm_k.": "x_block.attn2.ln_k.",
    "attn2.to_out.0.": "x_block.attn2.proj.",
    "norm1.linear.": "x_block.adaLN_modulation.1.",
    "norm1_context.linear.": "context_block.adaLN_modulation.1.",
    "ff.net.0.proj.": "x_block.mlp.fc1.",
    "ff.net.2.": "x_block.mlp.fc2.",
    "ff_context.net.0.proj.": "context_block.mlp.fc1.",
    "ff_context.net.2.": "context_block.mlp.fc2.",
}
JOINED = {  # three projections that the original keeps as one
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
}


def component(name: str, checkpoint: Path = DEMO_CHECKPOINT) -> Tensors:
    """A component's tensors as its folder has them."""
    return load_file(next((checkpoint / name).glob("*.safetensors")))


def transformer(tensors: Tensors) -> Tensors:
    found = dict(tensors)
    last = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("transformer_blocks."))
    out: Tensors = {}
    for layer in range(last):
        block = f"transformer_blocks.{layer}."
        for joined, parts in JOINED.items():
            for kind in ("weight", "bias"):
                if f"{block}{parts[0]}.{kind}" in found:
                    one = torch.cat([found.pop(f"{block}{part}.{kind}") for part in parts])
                    out[f"joint_blocks.{layer}.{joined}.{kind}"] = one
    for name, value in found.items():
        matched = re.fullmatch(r"transformer_blocks\.(\d+)\.(.*)", name)
        table, rest = (IN_BLOCK, matched[2]) if matched else (OUTSIDE, name)
        begin = next(key for key in table if rest.startswith(key))
        ours = table[begin] + rest.removeprefix(begin)
        if name.startswith("norm_out.") or (matched and int(matched[1]) == last - 1 and "norm1_context" in rest):
            scale, shift = value.chunk(2)  # the original says shift first
            value = torch.cat([shift, scale])
        out[f"joint_blocks.{matched[1]}.{ours}" if matched else ours] = value
    return out


def vae(tensors: Tensors, levels: int = 4) -> Tensors:
    out: Tensors = {}
    for name, value in tensors.items():
        if ".attentions." in name and name.endswith("weight") and "group_norm" not in name:
            value = value[:, :, None, None]
        for theirs, ours in (
            (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
            (r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample."),
            (r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block."),
            (r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample."),
            (r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}."),
            (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
            (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
            (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
            (r"conv_norm_out\.", "norm_out."),
            (r"conv_shortcut\.", "nin_shortcut."),
        ):
            name = re.sub(theirs, ours, name)
        out[name] = value
    return out


def prefixed(part: str, tensors: Tensors) -> Tensors:
    return {INSIDE[part] + name: value for name, value in tensors.items()}


def save(file: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, file)
    return file


def write(folder: Path) -> Path:
    """models/checkpoints and models/text_encoders, as the folders of ComfyUI are named."""
    held = prefixed("transformer", transformer(component("transformer"))) | prefixed("vae", vae(component("vae")))
    save(folder / "checkpoints/sd3.5_tiny.safetensors", held)
    for name, part in ENCODERS.items():
        save(folder / f"text_encoders/{name}.safetensors", component(part))
    with_encoders = {}
    for part in ENCODERS.values():
        with_encoders |= prefixed(part, component(part))
    save(folder / "checkpoints/sd3.5_tiny_incl_clips_t5xxl.safetensors", held | with_encoders)
    save(folder / "vae/sd3_vae.safetensors", vae(component("vae")))
    fp8 = {name: value.to(torch.float8_e4m3fn) for name, value in component("text_encoder_3").items()}
    save(folder / "text_encoders/t5xxl_fp8_e4m3fn.safetensors", fp8)
    return folder
