"""Pipelines of other models, tiny and with random weights, in the layout that save_pretrained writes.

Tokenizers and T5 are the demo checkpoint's; every architecture is the real class with small numbers.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
    T5Tokenizer,
)

from batchgen.job.presets import DEMO_CHECKPOINT

WIDTH_L, WIDTH_G, WIDTH_T5 = 48, 80, 128  # of the demo checkpoint's encoders


def clip_tokenizer(number: str) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / f"tokenizer{number}")


def clip(kind: type, number: str) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Without the first words' weights: CLIPTextModel and the one with a projection have other shapes."""
    return kind(CLIPTextConfig.from_pretrained(DEMO_CHECKPOINT / f"text_encoder{number}"))


def vae(channels: int) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=0.36,
        shift_factor=0.11,
    )


def unet(**more: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
        **more,
    )


def sdxl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip(CLIPTextModel, ""),
        text_encoder_2=clip(CLIPTextModelWithProjection, "_2"),
        tokenizer=clip_tokenizer(""),
        tokenizer_2=clip_tokenizer("_2"),
        unet=unet(
            cross_attention_dim=WIDTH_L + WIDTH_G,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH_G,
        ),
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )


def flux() -> FluxPipeline:
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=vae(16),
        text_encoder=clip(CLIPTextModel, ""),
        tokenizer=clip_tokenizer(""),
        text_encoder_2=T5EncoderModel.from_pretrained(DEMO_CHECKPOINT / "text_encoder_3"),
        tokenizer_2=T5Tokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer_3"),
        transformer=FluxTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH_T5,
            pooled_projection_dim=WIDTH_L,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def sd15() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip(CLIPTextModel, ""),
        tokenizer=clip_tokenizer(""),
        unet=unet(cross_attention_dim=WIDTH_L),
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def pixart() -> PixArtSigmaPipeline:
    """One that batchgen knows nothing of but its signature; it draws at a trained size and scales the picture."""
    return PixArtSigmaPipeline(
        tokenizer=T5Tokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer_3"),
        text_encoder=T5EncoderModel.from_pretrained(DEMO_CHECKPOINT / "text_encoder_3"),
        vae=vae(4),
        transformer=PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            sample_size=32,  # 256 pixels, the smallest that the pipeline has sizes for
            norm_num_groups=4,
            cross_attention_dim=32,
            caption_channels=WIDTH_T5,
        ),
        scheduler=DPMSolverMultistepScheduler(),
    )


MAKERS = {"sdxl": sdxl, "flux": flux, "sd15": sd15, "pixart": pixart}


def save(name: str, directory: Path) -> Path:
    """The same weights every time."""
    torch.manual_seed(7)
    MAKERS[name]().save_pretrained(directory)
    return directory
