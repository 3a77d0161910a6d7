"""The Stable Diffusion 3 renderer: the denoising loop over transformer and VAE, row by row faithful to diffusers.

The numbers are those of `StableDiffusion3Pipeline.__call__` (diffusers 0.42.1) with one CPU generator per row; what
the pipeline shares in a call, guidance and skip-layer scale, each row has for itself. Knows nothing of padding,
splitting or retrying (`render.batches`) and nothing of files (`load`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from batchgen.engines.device import device_name, on_device, peak_memory, pick_device
from batchgen.engines.libraries import versions
from batchgen.engines.protocol import ImageRow
from batchgen.engines.sd3.adapters import Adapters
from batchgen.engines.sd3.kernels import Kernels
from batchgen.engines.sd3.load import load_pipeline
from batchgen.engines.sd3.noise import Noise
from batchgen.engines.sd3.placement import Placement
from batchgen.engines.sd3.reuse import Reusing
from batchgen.engines.sd3.samplers import sampler_for
from batchgen.engines.sd3.sigmas import FIRST_SCHEDULES, SCHEDULES, TRAINED
from batchgen.engines.sd3.text import Embedding, PromptEncoder, RowEmbeds
from batchgen.job import Sampling
from batchgen.job.steps import guidance_window, reused, skip_layer_steps
from batchgen.run.images import Pixels
from batchgen.run.rules import SIMPLE
from batchgen.weights.spec import ModelSpec

Tensor = torch.Tensor
# Of the bucket key.
SHARED = ("height", "width", "num_inference_steps", "max_sequence_length", "adapter", "sampling", "refine")


class SD3Renderer:
    """Implements engines.protocol.Renderer."""

    def __init__(self, pipe: Any, spec: ModelSpec) -> None:
        self.spec = spec
        self.transformer, self.vae = pipe.transformer, pipe.vae
        self.adapters = Adapters(pipe, spec.adapters)
        self.placement = Placement(pipe, spec.model.offload, pick_device())
        self.torch_device = self.placement.device
        self.kernels = Kernels(self.transformer, spec.model, self.torch_device)
        self.scheduler_config = pipe.scheduler.config
        self.factor: int = pipe.vae_scale_factor  # pixels per latent, 8
        self.prompts = PromptEncoder(pipe, device=self.torch_device)
        if spec.model.vae_tiling:
            self.vae.enable_tiling()
        self.device = device_name(self.torch_device)
        self.versions = versions() | {"attention": self.kernels.attention.name}
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="noise")

    @property
    def compile_seconds(self) -> float | None:
        return self.kernels.compile_seconds

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Raises Refused where the weights are not what the plan saw."""
        return cls(load_pipeline(spec), spec)

    @on_device
    def encode(self, rows: Sequence[ImageRow]) -> list[RowEmbeds]:
        _check_one(rows, "adapter")
        self.adapters.use(rows[0].adapter)
        return self.prompts(rows)

    @on_device
    def prepare(self, rows: Sequence[ImageRow]) -> Noise:
        """The first noise of these rows, in any thread."""
        _check_one_bucket(rows)
        return Noise.of(rows, self.transformer.config.in_channels, self.factor, self.prompts.dtype, self.torch_device)

    @on_device
    def denoise(self, rows: Sequence[ImageRow], embeds: Sequence[RowEmbeds], prepared: Noise | None = None) -> Tensor:
        """Noise → latents (batch, 16, height/8, width/8), in the dtype of the model.

        prepared: of these rows. Its generators go on being drawn from.
        """
        noise = prepared or self.prepare(rows)
        return self.loop(rows, embeds, noise.on(self.torch_device), noise.generators, self.schedule(rows[0]))

    def loop(
        self,
        rows: Sequence[ImageRow],
        embeds: Sequence[RowEmbeds],
        latents: Tensor,
        generators: list[torch.Generator],
        schedule: tuple[Tensor, Tensor],
        first: int = 0,
        window: tuple[int, int] | None = None,
    ) -> Tensor:
        """Denoise by a schedule, from its step `first` on. window: guided steps, if they are not the rows'."""
        self.adapters.use(rows[0].adapter)
        self.placement.use("transformer")
        sampling = self.sampling(rows)
        sigmas, timesteps = schedule
        dtype, sampler = latents.dtype, sampler_for(sampling.sampler, sigmas, generators, self._drawing)
        steps = range(first, len(timesteps))
        window = window or guidance_window(len(timesteps), sampling)
        predict = self._predictor(rows, embeds, steps, range(*window) if rows[0].guidance_scale > 1 else range(0))
        for step in steps:
            velocity = predict(latents.to(dtype), timesteps[step], step)
            latents = sampler.step(latents, velocity, step)
        return latents.to(dtype)

    @on_device
    def finite(self, latents: Tensor) -> list[bool]:
        return [bool(row) for row in latents.isfinite().flatten(1).all(1).tolist()]

    @on_device
    def decode(self, latents: Tensor, rows: Sequence[int], *, upcast: bool = False) -> list[Pixels | None]:
        """Latents → (height, width, 3) uint8, one row at a time, so that memory and bits do not depend on the batch."""
        self.placement.use("vae")
        dtype = self.vae.dtype
        if upcast:
            self.vae.to(torch.float32)
        try:
            decoded = [self._decode_row(latents[row : row + 1].to(self.vae.dtype)) for row in rows]
        finally:
            if upcast:
                self.vae.to(dtype)
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)  # the copies run while the next row is decoded; now they must end
        # A copy, since pinned memory is scarce and pictures wait for their compression.
        return [pixels.numpy().copy() if bool(good) else None for pixels, good in decoded]

    @on_device
    def sigmas(self, row: ImageRow) -> list[float]:
        return [float(sigma) for sigma in self.schedule(row)[0].tolist()]

    def peak_memory(self) -> int:
        return peak_memory(self.torch_device)

    def sampling(self, rows: Sequence[ImageRow]) -> Sampling:
        """What the rows of a batch say of the loop, or else the job."""
        return rows[0].sampling or self.spec.sampling

    def schedule(self, row: ImageRow, *, own: bool = True) -> tuple[Tensor, Tensor]:
        """(steps + 1) noise levels and (steps) timesteps. From a scheduler of its own: diffusers' keeps state.

        own: by sampling.sigmas, where they are given.
        """
        sampling, num_inference_steps, changed = self.sampling([row]), row.num_inference_steps, {}
        if sampling.shift is not None:
            changed["shift"] = sampling.shift
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler_config, **changed)
        if sampling.sigmas is not None and own:
            scheduler.set_timesteps(sigmas=sampling.sigmas, device=self.torch_device)
        elif sampling.schedule == "normal":
            scheduler.set_timesteps(num_inference_steps, device=self.torch_device)
        else:
            schedules = SCHEDULES if SIMPLE in self.spec.rules else FIRST_SCHEDULES
            levels = schedules[sampling.schedule](num_inference_steps, scheduler.shift)
            sigmas = torch.tensor([*levels, 0.0], dtype=torch.float32, device=self.torch_device)
            return sigmas, sigmas[:-1] * TRAINED
        return scheduler.sigmas, scheduler.timesteps

    def _predictor(
        self, rows: Sequence[ImageRow], embeds: Sequence[RowEmbeds], steps: range, guided_steps: range
    ) -> Callable[[Tensor, Tensor, int], Tensor]:
        """The function (latents, timestep, step) → velocity for this batch, with what all steps share computed once."""
        positive = text, pooled = _stack([row.positive for row in embeds])
        negatives = [row.negative for row in embeds if row.negative is not None]
        skip_steps = self._skip_steps(rows, steps.stop).intersection(guided_steps)
        reusing = Reusing(self.transformer, reused(self.sampling(rows), steps, guided_steps, skip_steps))

        def forward(
            step: int, latents: Tensor, timestep: Tensor, texts: tuple[Tensor, Tensor], without: list[int] | None = None
        ) -> Tensor:
            return reusing.forward(step, lambda layers: self._forward(latents, timestep, *texts, layers), without)

        if not guided_steps:
            return lambda latents, timestep, step: forward(step, latents, timestep, positive)
        negative_text, negative_pooled = _stack(negatives)
        both = torch.cat([negative_text, text]), torch.cat([negative_pooled, pooled])
        read_until = int(self.sampling(rows).negative_prompt_stop * steps.stop)
        zeros = both  # made where steps read them: as large as the embeddings of the batch
        if read_until < steps.stop:
            zeros = torch.cat([torch.zeros_like(text), text]), torch.cat([torch.zeros_like(pooled), pooled])
        guidance = self._column([row.guidance_scale for row in rows])
        skip_scale = self._column([row.skip_layer_guidance_scale for row in rows])
        layers = [*self.sampling(rows).skip_guidance_layers]

        def guided(latents: Tensor, timestep: Tensor, step: int) -> Tensor:
            if step not in guided_steps:
                return forward(step, latents, timestep, positive)
            if step in reusing.guidance:
                with_text = forward(step, latents, timestep, positive)
                without = with_text - reusing.difference
            else:
                doubled = torch.cat([latents, latents])
                texts = both if step < read_until else zeros
                without, with_text = forward(step, doubled, timestep, texts).chunk(2)
                reusing.difference = with_text - without
            # The products round to the model's dtype as a Python float times a tensor does.
            velocity = without + (guidance * reusing.difference).to(without.dtype)
            if step in skip_steps:
                skipped = forward(step, latents, timestep, positive, layers)
                velocity = velocity + ((with_text - skipped) * skip_scale).to(velocity.dtype)
            return velocity

        return guided

    def _forward(
        self, latents: Tensor, timestep: Tensor, text: Tensor, pooled: Tensor, skip_layers: list[int] | None = None
    ) -> Tensor:
        with self.kernels.at_work(*latents.shape, text.shape[1]):
            velocity: Tensor = self.transformer(
                hidden_states=latents,
                timestep=timestep.expand(latents.shape[0]),
                encoder_hidden_states=text,
                pooled_projections=pooled,
                return_dict=False,
                skip_layers=skip_layers,
            )[0]
        return velocity

    def _skip_steps(self, rows: Sequence[ImageRow], steps: int) -> set[int]:
        """Steps with a skip-layer forward."""
        if not any(row.skip_layer_guidance_scale for row in rows):
            return set()
        sampling = self.sampling(rows)
        return {*skip_layer_steps(steps, sampling.skip_layer_guidance_start, sampling.skip_layer_guidance_stop)}

    def _decode_row(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 16, h, w) → pixels (8h, 8w, 3) uint8, perhaps still being copied, and whether the decoder gave no NaN."""
        latents = latents / self.vae.config.scaling_factor + self.vae.config.shift_factor
        image = self.vae.decode(latents, return_dict=False)[0][0].float()
        # VaeImageProcessor.postprocess and numpy_to_pil, in fp32 from the start: bf16 would shift 24 % of levels
        pixels = ((image * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous()
        if pixels.device.type == "cuda":
            pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
            pixels = pinned.copy_(pixels, non_blocking=True)
        return pixels, image.isfinite().all()

    def _column(self, values: Sequence[float]) -> Tensor:
        """(batch, 1, 1, 1) fp32: one number per row of a batch of latents."""
        return torch.tensor(values, dtype=torch.float32, device=self.torch_device).view(-1, 1, 1, 1)


def _stack(embeddings: Sequence[Embedding]) -> tuple[Tensor, Tensor]:
    """(batch, tokens, width) and (batch, pooled width)."""
    return torch.stack([one.text for one in embeddings]), torch.stack([one.pooled for one in embeddings])


def _check_one(rows: Sequence[ImageRow], name: str) -> None:
    if any(getattr(row, name) != getattr(rows[0], name) for row in rows):
        raise ValueError(f"rows of one batch differ in {name}")


def _check_one_bucket(rows: Sequence[ImageRow]) -> None:
    for name in SHARED:
        _check_one(rows, name)
    if len({row.guidance_scale > 1 for row in rows}) != 1:
        raise ValueError("rows of one batch differ in whether guidance is on")
