"""Known checkpoints, one row each: where they are, their defaults with the source, their size for cost estimates.

Data only: imports no torch, no diffusers, nothing of batchgen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

DEMO_CHECKPOINT = Path(__file__).parent.parent / "demo" / "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Defaults of one checkpoint. A job file and a manifest row override every sampling value.

    transformer: (layers, layers with dual attention, hidden width, parameters) of the denoiser, for its FLOPs.
    decode_tflop_per_megapixel: cost of the VAE decoder.
    batch_sizes: (pixels, batch size) ascending; an image with at most `pixels` gets that batch size.
    tflop_per_s: assumed sustained speed of one renderer, for estimates before anything was measured.
    gpu: it is meant for GPUs; nobody would render with it on CPUs unless they said so.
    png_bytes_per_pixel: assumed size of a PNG, for shards that stay below 256 MB.
    """

    pretrained_model_name_or_path: str
    dtype: str
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    max_sequence_length: int
    skip_guidance_layers: tuple[int, ...]
    min_pixels: int
    max_pixels: int
    max_side: int
    transformer: tuple[int, int, int, int]
    decode_tflop_per_megapixel: float
    batch_sizes: tuple[tuple[int, int], ...]
    tflop_per_s: float
    gpu: bool = True
    png_bytes_per_pixel: float = 2.0


DECODE = 10.47 / 1.048576  # counted with torch's FlopCounterMode at 1024²; one autoencoder for all of SD3 and SD3.5

LARGE = Preset(
    pretrained_model_name_or_path="stabilityai/stable-diffusion-3.5-large",
    dtype="bfloat16",
    # Model card sample: 28 steps, guidance 3.5. Stability-AI/sd3.5 sd3_infer.py says 40 and 4.5.
    height=1024,
    width=1024,
    num_inference_steps=28,
    guidance_scale=3.5,
    max_sequence_length=256,
    skip_guidance_layers=(),  # Stability names layers for Medium only
    min_pixels=256 * 256,
    max_pixels=2_097_152,  # made for 1 megapixel; positions reach further
    max_side=3072,  # pos_embed_max_size 192
    transformer=(38, 0, 2432, 8_056_627_520),
    decode_tflop_per_megapixel=DECODE,
    batch_sizes=((512 * 512, 8), (768 * 768, 4), (1024 * 1024, 2), (2_097_152, 1)),
    tflop_per_s=300.0,  # as for Medium
)

PRESETS = {
    "sd3.5-medium": Preset(
        pretrained_model_name_or_path="stabilityai/stable-diffusion-3.5-medium",
        dtype="bfloat16",  # fp16 corrupts T5 (diffusers #8604)
        # Model card sample: 1024 × 1024, 40 steps, guidance 4.5. diffusers 0.42.1 defaults: 28 and 7.0.
        height=1024,
        width=1024,
        num_inference_steps=40,
        guidance_scale=4.5,
        max_sequence_length=256,  # diffusers 0.42.1 default; the card warns of edge artifacts above it
        skip_guidance_layers=(7, 8, 9),  # Stability-AI/sd3.5 sd3_infer.py, CONFIGS["sd3.5_medium"]
        min_pixels=256 * 256,
        max_pixels=2_097_152,  # card: 0.25 to 2 megapixels
        max_side=6144,  # pos_embed_max_size 384 patches of 16 pixels
        transformer=(24, 13, 1536, 2_243_171_520),
        decode_tflop_per_megapixel=DECODE,
        batch_sizes=((512 * 512, 16), (768 * 768, 8), (1024 * 1024, 4), (1440 * 1440, 2), (2_097_152, 2)),
        tflop_per_s=300.0,  # an assumption for H100 in eager bf16, not a measurement
    ),
    "sd3.5-large": LARGE,
    "sd3.5-large-turbo": replace(
        LARGE,
        pretrained_model_name_or_path="stabilityai/stable-diffusion-3.5-large-turbo",
        # Model card sample: 4 steps, guidance 0.0, which is off: no second half of the batch is paid for.
        num_inference_steps=4,
        guidance_scale=0.0,
        batch_sizes=((512 * 512, 16), (768 * 768, 8), (1024 * 1024, 4), (2_097_152, 2)),  # half of guided ones' memory
    ),
    "sd3-medium": Preset(
        pretrained_model_name_or_path="stabilityai/stable-diffusion-3-medium-diffusers",
        dtype="bfloat16",
        # Model card sample: 28 steps, guidance 7.0, which are diffusers' defaults too.
        height=1024,
        width=1024,
        num_inference_steps=28,
        guidance_scale=7.0,
        max_sequence_length=256,
        skip_guidance_layers=(),
        min_pixels=256 * 256,
        max_pixels=2_097_152,  # it pixelates edges well below that (ComfyUI #3697)
        max_side=3072,  # pos_embed_max_size 192
        transformer=(24, 0, 1536, 2_028_328_000),
        decode_tflop_per_megapixel=DECODE,
        batch_sizes=((512 * 512, 16), (768 * 768, 8), (1024 * 1024, 4), (2_097_152, 2)),
        tflop_per_s=300.0,
    ),
    # Any pipeline of diffusers (`engine: diffusers`). Nothing is known of the model: write what its card says. Costs
    # are assumed to be those of SD3.5 Large.
    "diffusers": replace(
        LARGE,
        pretrained_model_name_or_path="",
        num_inference_steps=30,
        guidance_scale=5.0,  # the default of StableDiffusionXLPipeline, diffusers 0.42.1
        min_pixels=64 * 64,
        max_pixels=4096 * 4096,  # what a model was trained for, it does not say
        max_side=4096,
        batch_sizes=((512 * 512, 8), (768 * 768, 4), (1024 * 1024, 2), (4096 * 4096, 1)),
    ),
    "demo": Preset(
        pretrained_model_name_or_path=str(DEMO_CHECKPOINT),
        dtype="float32",  # runs on a CPU; bf16 is slower there
        # What jobs/train_demo.py trained it for; steps are diffusers 0.42.1's, guidance is the Medium card's.
        height=96,
        width=96,
        num_inference_steps=28,
        guidance_scale=4.5,
        max_sequence_length=64,
        skip_guidance_layers=(1,),
        min_pixels=32 * 32,
        max_pixels=512 * 512,
        max_side=512,
        transformer=(6, 3, 128, 3_843_968),
        decode_tflop_per_megapixel=0.119,  # counted with torch's FlopCounterMode at 256²
        batch_sizes=((512 * 512, 4),),
        tflop_per_s=0.01,
        gpu=False,
    ),
    "fake": Preset(
        pretrained_model_name_or_path="fake",
        dtype="float32",
        height=64,
        width=64,
        num_inference_steps=4,
        guidance_scale=4.5,
        max_sequence_length=64,
        skip_guidance_layers=(1,),
        min_pixels=16 * 16,
        max_pixels=2_097_152,
        max_side=4096,
        transformer=(4, 2, 64, 500_000),
        decode_tflop_per_megapixel=0.05,
        batch_sizes=((2_097_152, 4),),
        tflop_per_s=1.0,
        gpu=False,
    ),
}
