"""Which image rows may share a GPU batch, what one image costs, and how many go into a batch and a shard.

Arithmetic only: knows no files, no Ray, no torch, and measures nothing. A cost is a count of floating point
operations; seconds come from `Preset.tflop_per_s`, an assumption until a run has measured its own speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from batchgen.job import Model, Refine, Sampling
from batchgen.job.presets import Preset
from batchgen.job.steps import (
    CLIP_TOKENS,
    SNAP,
    Reused,
    first_reused,
    guidance_window,
    refine_reused,
    refine_steps,
    refined_size,
    skip_layer_steps,
)
from batchgen.job.sweep import shown

CAPTION_WIDTH = 4096  # joint_attention_dim of SD3 and SD3.5
PATCH_CHANNELS = 64  # 16 latent channels × 2 × 2

SHARD_SECONDS = 90.0  # what a preempted renderer loses at most, about
SHARD_BYTES = 256_000_000
SHARD_IMAGES = 512
SHARD_MOST_BYTES = 1_000_000_000  # of one that is asked for: it is assembled in memory, and stored by one request
# Bytes per pixel of photographs at the usual qualities, a guess until something is measured; PNG is the preset's.
ASSUMED_BYTES = {"webp": 0.4, "jpeg": 0.8}


@dataclass(frozen=True, slots=True)
class Bucket:
    """What images of one batch have in common. `str()` is the key that people read and plans group by.

    skip_layers is empty where skip-layer guidance is off; its scale may differ within a batch, as guidance may.
    one_call: guidance_scale, and whether there is a negative prompt, where one call of diffusers renders the batch
    (`engine: diffusers`) and all rows must agree in them.
    guided_steps: how many steps run the second half of the batch. swept: what its cells say of the loop, by column.
    sampling: what the loop is told; equal buckets of a plan are told the same.
    """

    height: int
    width: int
    num_inference_steps: int
    guidance: bool
    skip_layers: tuple[int, ...]
    skip_start: float
    skip_stop: float
    max_sequence_length: int
    adapter: str = ""
    one_call: tuple[float, bool] | None = None
    guided_steps: int = 0
    swept: tuple[tuple[str, Any], ...] = ()
    sampling: Sampling = field(kw_only=True, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        sampling: Sampling,
        *,
        height: int,
        width: int,
        num_inference_steps: int,
        guidance_scale: float,
        skip_layer_guidance_scale: float,
        max_sequence_length: int,
        adapter: str | None = None,
        one_call: tuple[float, bool] | None = None,
        swept: tuple[tuple[str, Any], ...] = (),
    ) -> Bucket:
        """The bucket of an image row; the keywords are columns of the plan, the rest of `sampling` is its cell's.

        one_call: guidance_scale and whether there is a negative prompt, where one call of diffusers shares them.
        """
        guided = guidance_scale > 1
        skipped = guided and skip_layer_guidance_scale > 0
        first, last = guidance_window(num_inference_steps, sampling)
        return cls(
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance=guided,
            skip_layers=tuple(sampling.skip_guidance_layers) if skipped else (),
            skip_start=sampling.skip_layer_guidance_start if skipped else 0.0,
            skip_stop=sampling.skip_layer_guidance_stop if skipped else 0.0,
            max_sequence_length=max_sequence_length,
            adapter=adapter or "",
            one_call=one_call,
            guided_steps=max(0, last - first) if guided else 0,
            swept=swept,
            sampling=sampling,
        )

    @property
    def reused(self) -> Reused:
        """What steps of the first pass take over."""
        skips_layers = bool(self.skip_layers)
        return first_reused(self.sampling, self.num_inference_steps, is_guided=self.guidance, skips_layers=skips_layers)

    @property
    def refined(self) -> bool:
        """Whether its images have the job's second pass, if it has one."""
        return bool(dict(self.swept).get("refine", True))

    def __str__(self) -> str:
        layers = ",".join(map(str, self.skip_layers))
        skipping = f"{layers}@{self.skip_start:g}-{self.skip_stop:g}" if layers else "off"
        guidance = "on" if self.guidance else "off"
        said = (
            f"{self.height}x{self.width} steps={self.num_inference_steps} guidance={guidance} "
            f"slg={skipping} t5={self.max_sequence_length}" + (f" adapter={self.adapter}" if self.adapter else "")
        ) + "".join(f" {name}={shown(value)}" for name, value in self.swept)
        if self.one_call is None:
            return said
        scale, negative = self.one_call
        return f"{said} guidance_scale={scale!r} negative={'on' if negative else 'off'}"


def forward_tflop(preset: Preset, height: int, width: int, max_sequence_length: int, skipped: int = 0) -> float:
    """One forward pass of the denoiser for one row. skipped: how many of its dual-attention layers are left out.

    Multiplications and additions of every matrix product of an MMDiT-X, in trillions; norms and activations
    are not counted. Agrees with torch's FlopCounterMode on the real architecture within 1 %.
    """
    layers, dual, hidden, _ = preset.transformer
    layers, dual = layers - skipped, max(0, dual - skipped)
    image, text = height * width // SNAP**2, CLIP_TOKENS + max_sequence_length
    square = hidden * hidden
    # Per block and token: q, k, v and output projections are 4 squares, the feed-forward 8. The last block
    # needs only q, k, v of the text. A second attention (dual) has 4 squares of its own, image tokens only.
    linear = image * (12 * layers + 4 * dual) * square + text * (12 * (layers - 1) + 3) * square
    attention = 2 * hidden * (layers * (image + text) ** 2 + dual * image**2)
    ends = text * CAPTION_WIDTH * hidden + 2 * image * PATCH_CHANNELS * hidden
    return 2 * (linear + attention + ends) / 1e12


def image_tflop(preset: Preset, bucket: Bucket) -> float:
    """Cost of one image in TFLOP: denoising and decoding.

    Encoding prompts is left out: at most 3 % of an image, and shared by all images of a prompt.
    """
    forward = forward_tflop(preset, bucket.height, bucket.width, bucket.max_sequence_length)
    reusing = bucket.reused
    total = (bucket.num_inference_steps + bucket.guided_steps - reusing.saved) * forward
    if bucket.skip_layers:
        skipping = forward_tflop(
            preset, bucket.height, bucket.width, bucket.max_sequence_length, len(set(bucket.skip_layers))
        )
        steps = skip_layer_steps(bucket.num_inference_steps, bucket.skip_start, bucket.skip_stop)
        total += (len(steps) - reusing.saved_skipping) * skipping
    return total + preset.decode_tflop_per_megapixel * bucket.height * bucket.width / 1e6


def block_passes(bucket: Bucket, refine: Refine | None) -> tuple[int, int]:
    """Of one image: how many passes of a row through the blocks are reused, and how many there would be without."""
    reusing, steps = bucket.reused, bucket.num_inference_steps
    skipping = len(skip_layer_steps(steps, bucket.skip_start, bucket.skip_stop)) if bucket.skip_layers else 0
    saved, whole = reusing.saved + reusing.saved_skipping, steps + bucket.guided_steps + skipping
    if refine is None or not bucket.refined:
        return saved, whole
    halves = 2 if refine.guidance_scale > 1 else 1
    return saved + refine_reused(refine, bucket.sampling).saved, whole + refine_steps(refine) * halves


def refine_tflop(refine: Refine, model: Model, bucket: Bucket) -> float:
    """Cost of the second pass of one image, and of decoding at its size rather than at the first's."""
    height, width = refined_size(refine, bucket.height, bucket.width)
    preset = model.defaults
    halves = 2 if refine.guidance_scale > 1 else 1
    forwards = refine_steps(refine) * halves - refine_reused(refine, bucket.sampling).saved
    decoded = preset.decode_tflop_per_megapixel * (height * width - bucket.height * bucket.width) / 1e6
    return forwards * forward_tflop(preset, height, width, bucket.max_sequence_length) + decoded


def batch_size(preset: Preset, height: int, width: int, rows: int, fixed: int | Literal["auto"] = "auto") -> int:
    """Rows of one batch in a bucket of `rows` images. fixed: `model.batch_size` of the job.

    A bucket that ends with fewer rows than one batch gets the next power of two, so that little is padding.
    """
    if fixed == "auto":
        pixels = height * width
        full = next((size for limit, size in preset.batch_sizes if pixels <= limit), preset.batch_sizes[-1][1])
    else:
        full = fixed
    return min(full, 1 << max(0, rows - 1).bit_length())


def images_per_shard(preset: Preset, height: int, width: int, tflop: float, batch_size: int) -> int:
    """A multiple of the batch size: about 90 s of one renderer, at most 256 MB and 512 images, at least one batch."""
    by_time = SHARD_SECONDS * preset.tflop_per_s / max(tflop, 1e-12)
    by_bytes = SHARD_BYTES / (height * width * preset.png_bytes_per_pixel)
    images = math.floor(min(by_time, by_bytes, SHARD_IMAGES))
    return max(1, images // batch_size) * batch_size


def most_per_shard(preset: Preset, height: int, width: int, image_format: str, batch_size: int) -> int:
    """How many images of this size may be asked for: what stays below 1 GB in full batches, at least one batch."""
    images = SHARD_MOST_BYTES / (height * width * assumed_bytes(preset, image_format))
    return max(1, math.floor(images) // batch_size) * batch_size


def assumed_bytes(preset: Preset, image_format: str) -> float:
    """Per pixel, before anything is measured."""
    return ASSUMED_BYTES.get(image_format, preset.png_bytes_per_pixel)
