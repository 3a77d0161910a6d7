"""What a safetensors file holds, told from the names and shapes of its tensors: for finding, checking and explaining.

Knows the names of SD3's tensors and, to explain mistakes, some of other models. Reads no files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchgen.weights.headers import Tensor
from batchgen.weights.tensor_names import as_diffusers, expected

Tensors = Mapping[str, Tensor]
NAMES = {
    "transformer": "transformer",
    "vae": "VAE",
    "text_encoder": "CLIP-L",
    "text_encoder_2": "CLIP-G",
    "text_encoder_3": "T5-XXL",
}
CLIP_PROBE, T5_PROBE = "text_model.embeddings.token_embedding.weight", "shared.weight"
PROBES = {  # a tensor that every file with this component has
    "transformer": "joint_blocks.0.x_block.attn.qkv.weight",
    "vae": "decoder.conv_in.weight",
    "text_encoder": CLIP_PROBE,
    "text_encoder_2": CLIP_PROBE,
    "text_encoder_3": T5_PROBE,
}
INSIDE = {  # how names begin in a checkpoint file; ComfyUI and diffusers 0.42.1, CHECKPOINT_KEY_NAMES
    "transformer": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
    "text_encoder_3": "text_encoders.t5xxl.transformer.",
}
UNREAD = ("position_ids", "logit_scale", "encoder.embed_tokens.weight")  # counted, unused, or a copy of another
SCALES = (".scale_weight", ".scale_input", "scaled_fp8")  # of ComfyUI's scaled fp8: weight × scale_weight
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
DIFFUSERS_VAE = "decoder.mid_block.resnets.0.conv1.weight"
SHOWN = 3


def find_prefix(component: str, tensors: Tensors, *, checkpoint: bool = False) -> str | None:
    """How the names of a component's tensors begin. checkpoint: in a file that holds others too."""
    own = "" if component == "vae" else "transformer."
    prefixes = (INSIDE[component], *(() if checkpoint and component != "transformer" else (own, "")))
    return next((prefix for prefix in prefixes if prefix + PROBES[component] in tensors), None)


def inside(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors of one component, by their names without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def misfit(component: str, config: Mapping[str, Any], tensors: Tensors, prefix: str) -> str:
    """One sentence on how tensors differ from those of the config; nothing if they are the same. Raises KeyError."""
    own = {name: tensor for name, tensor in inside(tensors, prefix).items() if not name.endswith((*UNREAD, *SCALES))}
    wanted = expected(component, config)
    if component == "vae" and DIFFUSERS_VAE in own:
        wanted = as_diffusers(wanted, len(config["block_out_channels"]))
    missing = sorted(set(wanted) - set(own) - optional(component, config))
    more = sorted(set(own) - set(wanted))
    wrong = sorted(name for name in wanted if name in own and own[name].shape != wanted[name])
    packed = sorted(name for name in wanted if name in own and own[name].dtype not in FLOATS)
    sayings = [
        *(f"{name} has the shape {own[name].shape} instead of {wanted[name]}" for name in wrong),
        *(f"{name} is missing" for name in missing),
        *(f"{name} is one too many" for name in more),
        *(f"{name} is {own[name].dtype}, quantized in a way batchgen does not read" for name in packed),
    ]
    rest = f", and {len(sayings) - SHOWN} more" if len(sayings) > SHOWN else ""
    return f"{'; '.join(sayings[:SHOWN])}{rest}." if sayings else ""


def optional(component: str, config: Mapping[str, Any]) -> set[str]:
    """CLIP-L's projection, which SD3's own files leave out: it is the identity (diffusers 0.42.1 does the same)."""
    square = component == "text_encoder" and config.get("hidden_size") == config.get("projection_dim")
    return {"text_projection.weight"} if square else set()


def said_to_be(tensors: Tensors) -> str:
    """What a file is, for people: 'a LoRA', 'T5 with 24 layers of width 4096'."""
    return next(
        _guesses(tensors), f"none that batchgen knows ({len(tensors)} tensors, such as {min(tensors, default='')})"
    )


def _guesses(tensors: Tensors) -> Iterator[str]:
    """From the most telling to the least."""
    names = "\n".join(tensors)
    if re.search(r"lora_(A|B|up|down)\b|\.lora\.|lora_unet", names):
        yield "a LoRA, which goes into model.adapters"
    if "controlnet_blocks." in names or "control_model." in names:
        yield "a ControlNet"
    if (prefix := find_prefix("transformer", tensors)) is not None:
        yield _stable_diffusion_3(inside(tensors, prefix))
    for mark, name in OTHERS.items():
        if mark in names:
            yield name
    for component in ("text_encoder_3", "text_encoder", "vae"):
        if (prefix := find_prefix(component, tensors)) is not None:
            yield _component(component, inside(tensors, prefix))


OTHERS = {  # a part of a name → what has such names
    "conditioner.embedders.": "a checkpoint of Stable Diffusion XL",
    "cond_stage_model.": "a checkpoint of Stable Diffusion 1 or 2",
    "model.diffusion_model.input_blocks.": "the U-Net of Stable Diffusion 1, 2 or XL",
    "double_blocks.": "a transformer of Flux",
    "transformer_blocks.": "a transformer in diffusers' layout, whose directory you can write instead",
    "text_model.transformer.resblocks": "a text encoder in OpenCLIP's layout",
    "transformer.resblocks.": "a text encoder in OpenCLIP's layout",
}


def _stable_diffusion_3(own: Tensors) -> str:
    layers = len({name.split(".")[1] for name in own if name.startswith("joint_blocks.")})
    width = own[PROBES["transformer"]].shape[-1]
    dual = any(".attn2." in name for name in own)
    normed = any(".ln_q." in name for name in own)
    kind = {(24, True, True): "3.5 Medium", (38, True, False): "3.5 Large", (24, False, False): "3 Medium"}
    size = kind.get((layers, normed, dual), "3")
    return f"a Stable Diffusion {size} with {layers} blocks of width {width}"


def _component(component: str, own: Tensors) -> str:
    if component == "vae":
        return f"a VAE with {own[PROBES['vae']].shape[1]} latent channels"
    vocabulary, width = own[PROBES[component]].shape
    if component == "text_encoder_3":
        layers = len({name.split(".")[2] for name in own if name.startswith("encoder.block.")})
        return f"a T5 encoder with {layers} layers of width {width} and {vocabulary} words"
    layers = len({name.split(".")[3] for name in own if name.startswith("text_model.encoder.layers.")})
    known = {768: " (CLIP-L)", 1280: " (CLIP-G)"}.get(width, "")
    return f"a CLIP text encoder with {layers} layers of width {width}{known}"
