"""Two passes over an image: rendered, enlarged, partly noised again, and denoised at that size in the same shard.

A row may do without the second, which is StableDiffusion3Img2ImgPipeline's (diffusers 0.42.1), given latents and the
generators of the first. Knows two SD3 renderers, which may be one, and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from batchgen.engines.device import on_device
from batchgen.engines.protocol import ImageRow
from batchgen.engines.sd3.noise import Noise, draw
from batchgen.engines.sd3.renderer import SD3Renderer
from batchgen.engines.sd3.text import RowEmbeds
from batchgen.job import Refine
from batchgen.job.steps import first_step, refined_size
from batchgen.run.images import Pixels


class TwoPassRenderer:
    """Implements batchgen.models.renderer.Renderer. Both checkpoints must have the same latents, as all of SD3 do."""

    def __init__(self, first: SD3Renderer, second: SD3Renderer, refine: Refine) -> None:
        self.first, self.second, self.refine = first, second, refine
        self.device, self.versions = first.device, first.versions

    @property
    def compile_seconds(self) -> float | None:
        both = {id(one): one.compile_seconds for one in (self.first, self.second)}.values()
        known = [seconds for seconds in both if seconds is not None]
        return sum(known) if known else None

    def encode(self, rows: Sequence[ImageRow]) -> list[tuple[RowEmbeds, RowEmbeds | None]]:
        once = self.first.encode(rows)
        twice = self.second.encode(self.again(rows)) if rows[0].refine else [None] * len(rows)
        return [*zip(once, twice, strict=True)]

    def prepare(self, rows: Sequence[ImageRow]) -> Noise:
        """That of the first pass, with which the second goes on."""
        return self.first.prepare(rows)

    @on_device
    def denoise(
        self,
        rows: Sequence[ImageRow],
        embeds: Sequence[tuple[RowEmbeds, RowEmbeds | None]],
        prepared: Noise | None = None,
    ) -> Tensor:
        """Noise → latents (batch, 16, height/8, width/8), both sides × scale where there is a second pass."""
        noise = prepared or self.prepare(rows)
        self.second.placement.rest()
        latents = self.first.denoise(rows, [one for one, _ in embeds], noise)
        if not rows[0].refine:
            return latents
        self.first.placement.rest()
        rows, texts = self.again(rows), [two for _, two in embeds if two is not None]
        dtype, size = texts[0].positive.text.dtype, (rows[0].height // 8, rows[0].width // 8)
        enlarged = functional.interpolate(latents.float(), size=size, mode=self.refine.upscale_method).to(dtype)
        sigmas, timesteps = self.second.schedule(rows[0], own=False)
        begin = first_step(len(timesteps), self.refine.strength)
        sigma = sigmas[begin].to(dtype)
        again = draw(tuple(enlarged.shape), noise.generators, dtype, self.second.torch_device).to(enlarged.device)
        noised = sigma * again + (1.0 - sigma) * enlarged
        window = 0, len(timesteps)
        return self.second.loop(rows, texts, noised, noise.generators, (sigmas, timesteps), begin, window)

    def finite(self, latents: Tensor) -> list[bool]:
        return self.second.finite(latents)

    def decode(self, latents: Tensor, rows: Sequence[int], *, upcast: bool = False) -> list[Pixels | None]:
        if self.second is not self.first:
            self.second.placement.rest()
        return self.first.decode(latents, rows, upcast=upcast)

    def sigmas(self, row: ImageRow) -> list[float]:
        """Of both passes, one after the other: the second begins after the first 0."""
        if not row.refine:
            return self.first.sigmas(row)
        sigmas, timesteps = self.second.schedule(*self.again([row]), own=False)
        return self.first.sigmas(row) + sigmas[first_step(len(timesteps), self.refine.strength) :].tolist()

    def peak_memory(self) -> int:
        return self.first.peak_memory()

    def again(self, rows: Sequence[ImageRow]) -> list[ImageRow]:
        """The rows of the second pass. Skip-layer guidance is the first's alone, as diffusers has it."""
        height, width = refined_size(self.refine, rows[0].height, rows[0].width)
        same = self.second is self.first
        return [
            replace(
                row,
                height=height,
                width=width,
                num_inference_steps=self.refine.num_inference_steps,
                guidance_scale=self.refine.guidance_scale,
                skip_layer_guidance_scale=0.0,
                adapter=row.adapter if same else None,
            )
            for row in rows
        ]
