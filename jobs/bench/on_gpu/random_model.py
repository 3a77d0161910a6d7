"""Stable Diffusion 3.5 with random weights, built on a device: nothing is read but small configs and tokenizers.

Kernels, shapes and memory are those of the real checkpoint; pictures are noise. `tiny` is the architecture of the demo
checkpoint, so that all of a benchmark also runs on a CPU. Knows nothing of rendering or timing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from batchgen.job.presets import DEMO_CHECKPOINT, PRESETS, Preset

WEIGHTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
PRESET_OF = {"medium": "sd3.5-medium", "tiny": "demo"}

_CLIP = {"vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
# The configs of stabilityai/stable-diffusion-3.5-medium, as far as they decide shapes.
MEDIUM: dict[str, dict[str, Any]] = {
    "transformer": {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "num_attention_heads": 24,
        "attention_head_dim": 64,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 384,
        "dual_attention_layers": list(range(13)),
        "qk_norm": "rms_norm",
    },
    "vae": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 16,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "norm_num_groups": 32,
        "sample_size": 1024,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    "text_encoder": {
        **_CLIP,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "projection_dim": 768,
    },
    "text_encoder_2": {
        **_CLIP,
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "hidden_act": "gelu",
        "projection_dim": 1280,
    },
    "text_encoder_3": {
        "vocab_size": 32128,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": False,
        "use_cache": False,
    },
    "scheduler": {"num_train_timesteps": 1000, "shift": 3.0},
}


def preset_of(size: str) -> Preset:
    return PRESETS[PRESET_OF[size]]


def build_pipeline(size: str, device: torch.device, dtype: torch.dtype, *, t5: bool = True) -> StableDiffusion3Pipeline:
    """All components on the device; the tokenizers are the demo checkpoint's, whose ids every size knows."""
    parts = [part for part in WEIGHTS if t5 or part != "text_encoder_3"]
    pipe = StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(config_of(size, "scheduler")),
        tokenizer=CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer_2"),
        tokenizer_3=T5Tokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer_3"),
        **{part: build_part(size, part, device, dtype) for part in parts} | ({} if t5 else {"text_encoder_3": None}),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build_part(size: str, part: str, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """One model with the same weights every time, drawn where they stay."""
    config = config_of(size, part)
    torch.manual_seed(WEIGHTS.index(part))
    with torch.device(device), _default_dtype(dtype):
        model: torch.nn.Module
        if part == "transformer":
            model = SD3Transformer2DModel.from_config(config)
        elif part == "vae":
            model = AutoencoderKL.from_config(config)
        elif part == "text_encoder_3":
            model = T5EncoderModel(T5Config.from_dict(config))
        else:
            model = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(config))
    return model.to(dtype).eval().requires_grad_(False)  # to: the table of positions is computed in fp32


def config_of(size: str, part: str) -> dict[str, Any]:
    if size == "medium":
        return dict(MEDIUM[part])
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    config: dict[str, Any] = json.loads((DEMO_CHECKPOINT / part / name).read_text("utf-8"))
    return config


def bytes_of(model: torch.nn.Module) -> int:
    """Of parameters and buffers."""
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
