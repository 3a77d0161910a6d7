"""A pipeline of random weights on a device and batchgen's renderer of it, by the settings of a job file.

What all measurements share: rows, batch sizes, arithmetic of an image, and one batch rendered eagerly that others are
compared with. Knows nothing of how things are measured.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from on_gpu.random_model import PRESET_OF, WEIGHTS, build_pipeline, bytes_of, preset_of
from on_gpu.rows_alike import GUIDANCE, make_rows
from on_gpu.stopwatch import Stopwatch

from batchgen.engines.libraries import DTYPES
from batchgen.engines.protocol import ImageRow
from batchgen.engines.sd3.kernels import refuse_without_fp8
from batchgen.engines.sd3.quantize import multiply_in_fp8, quantize
from batchgen.engines.sd3.renderer import SD3Renderer
from batchgen.engines.sd3.text import Embedding, RowEmbeds
from batchgen.job import Job
from batchgen.rows.buckets import Bucket, batch_size, image_tflop
from batchgen.weights.quantization import refuse_unusable
from batchgen.weights.spec import ModelSpec

NEGATIVE = "blurry, low quality"
NO_T5: dict[str, Any] = {"text_encoder_3": None}


@dataclass(frozen=True)
class Reference:
    """One full batch, rendered eagerly by batchgen."""

    rows: list[ImageRow]
    embeds: list[RowEmbeds]
    latents: torch.Tensor
    denoise_s: float

    def save(self, path: Path) -> None:
        """As tensors, texts and numbers: reading it back runs no code."""
        embeds = [[(side.text, side.pooled) for side in row if side is not None] for row in self.embeds]
        torch.save([[asdict(row) for row in self.rows], embeds, self.latents, self.denoise_s], path)

    @classmethod
    def load(cls, path: Path, device: str) -> Self:
        rows, embeds, latents, denoise_s = torch.load(path, weights_only=True, map_location=device)
        read = [RowEmbeds(*(Embedding(*side) for side in row)) for row in embeds]
        return cls([ImageRow(**row) for row in rows], read, latents, denoise_s)


@dataclass
class Model:
    """settings: of `model:` in a job file; None before anything was built."""

    size: str
    steps: int
    watch: Stopwatch
    settings: dict[str, Any] | None = None
    pipe: Any = None
    renderer: SD3Renderer | None = None
    known: Reference | None = None

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[preset_of(self.size).dtype]

    @property
    def tokens(self) -> int:
        """The T5 length."""
        return preset_of(self.size).max_sequence_length

    def use(self, settings: dict[str, Any]) -> SD3Renderer:
        """Build everything anew as this job would load it. Raises Refused where this machine cannot."""
        if settings == self.settings:
            return self.renderer
        spec = spec_of(self.size, settings)
        refuse_unusable(spec.model)
        self.pipe = self.renderer = self.settings = None
        gc.collect()  # hooks know their modules
        t5 = spec.model.text_encoder_3 is not None
        self.pipe = build_pipeline(self.size, self.watch.device, self.dtype, t5=t5)
        for part, kind in spec.model.quantization.model_dump(exclude_none=True).items():
            quantize(getattr(self.pipe, part), kind, self.dtype, self.watch.device)
        if spec.model.kernels == "compiled_fp8":
            refuse_without_fp8(self.watch.device)
            multiply_in_fp8(self.pipe.transformer, self.watch.device)
        self.renderer, self.settings = SD3Renderer(self.pipe, spec), settings
        return self.renderer

    def reference(self, side: int) -> Reference:
        """Of this size; rendered when it is first asked for."""
        if self.known is None or self.known.rows[0].height != side:
            renderer, count = self.use({}), self.batch_size(side)
            warm, rows = self.rows(side, count, steps=1), self.rows(side, count)
            renderer.denoise(warm, renderer.encode(warm))
            embeds = renderer.encode(rows)
            seconds, latents = self.watch.timed(lambda: renderer.denoise(rows, embeds))
            self.known = Reference(rows, embeds, latents, seconds)
        return self.known

    def batch_size(self, side: int) -> int:
        """That of the preset's table."""
        return batch_size(preset_of(self.size), side, side, 1 << 20)

    def rows(self, side: int, count: int, steps: int | None = None, first: int = 0) -> list[ImageRow]:
        return make_rows(side, count, steps or self.steps, self.tokens, first=first, negative=NEGATIVE)

    def bucket(self, side: int, steps: int | None = None) -> Bucket:
        return Bucket.of(
            spec_of(self.size, {}).sampling,
            height=side,
            width=side,
            num_inference_steps=steps or self.steps,
            guidance_scale=GUIDANCE,
            skip_layer_guidance_scale=0.0,
            max_sequence_length=self.tokens,
        )

    def tflop_per_image(self, side: int, steps: int | None = None) -> float:
        """Matrix products of denoising and decoding, as `batchgen plan` counts them."""
        return image_tflop(preset_of(self.size), self.bucket(side, steps))

    def weights(self) -> dict[str, Any]:
        return {part: bytes_of(getattr(self.pipe, part)) for part in WEIGHTS}

    def encode_anew(self, rows: Sequence[ImageRow]) -> Any:
        self.renderer.prompts.cache.clear()
        self.renderer.prompts.cached_bytes = 0
        return self.renderer.encode(rows)


def spec_of(size: str, settings: dict[str, Any], reuse: dict[str, Any] | None = None) -> ModelSpec:
    said: dict[str, Any] = {"input": {"path": "-"}, "output": {"path": "-"}, "sampling": {"reuse": reuse or {}}}
    job = Job.model_validate(said | {"model": {"preset": PRESET_OF[size]} | settings})
    return ModelSpec(path="random", revision=None, digest="random", model=job.model, sampling=job.sampling)


def rounded(number: float) -> float:
    """Four significant digits: what a repeat would confirm, and more."""
    return float(f"{number:.4g}")
