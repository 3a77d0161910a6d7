"""Any text-to-image pipeline of diffusers behind the renderer's protocol: one call of its own __call__ a batch.

For comparing other models with SD3.5. What a pipeline does with its prompts, sizes and scheduler is its own; batchgen
adds a CPU generator for each row, and refuses what would be ignored. So that a row depends on nothing but itself and
the batch size is promised only as far as the pipeline keeps it: one that pads prompts to the longest of a batch does
not. Knows nothing of padding batches, splitting or retrying (`render.batches` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import diffusers
import numpy as np
import numpy.typing as npt
import torch
import transformers

from batchgen.engines.device import device_name, on_device, peak_memory, pick_device
from batchgen.engines.libraries import DTYPES, versions
from batchgen.engines.protocol import ImageRow
from batchgen.engines.quiet import quieten
from batchgen.errors import Problem, Refused
from batchgen.job.pipelines import Pipeline, class_in, complaints
from batchgen.run.images import Pixels
from batchgen.weights.locate import verify
from batchgen.weights.spec import ModelSpec

Images = npt.NDArray[np.float32]  # (batch, height, width, 3), 0 to 1
SHARED = ("height", "width", "num_inference_steps", "max_sequence_length", "guidance_scale")


class DiffusersRenderer:
    """Implements batchgen.models.renderer.Renderer; the latents of the protocol are finished pictures here."""

    compile_seconds = None

    def __init__(self, pipe: Any, spec: ModelSpec) -> None:
        self.spec, self.pipe = spec, pipe
        self.takes = Pipeline.named(type(pipe).__name__).takes
        self.torch_device: torch.device = pipe.device
        self.device = device_name(self.torch_device)
        self.versions = versions()
        self._sigmas: dict[int, list[float]] = {}

    @classmethod
    def load(cls, spec: ModelSpec) -> Self:
        """Raises Refused where the weights are not what the plan saw, or diffusers here cannot render with them."""
        return cls(load_any(spec), spec)

    def encode(self, rows: Sequence[ImageRow]) -> list[ImageRow]:
        """The rows themselves: each call encodes its own prompts."""
        return list(rows)

    def prepare(self, rows: Sequence[ImageRow]) -> None:
        """Nothing: the pipeline draws its own noise."""

    @on_device
    def denoise(self, rows: Sequence[ImageRow], embeds: Sequence[ImageRow], prepared: None = None) -> Images:
        """Pictures (batch, height, width, 3), decoded in the batch as the pipeline does it."""
        _check_one_call(rows)
        row = rows[0]
        images: Images = self.pipe(
            **self._texts(rows),
            height=row.height,
            width=row.width,
            num_inference_steps=row.num_inference_steps,
            guidance_scale=row.guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(row.seed) for row in rows],
            output_type="np",
        ).images
        self._remember_sigmas(row.num_inference_steps)
        return images

    def finite(self, latents: Images) -> list[bool]:
        return [bool(np.isfinite(picture).all()) for picture in latents]

    def decode(self, latents: Images, rows: Sequence[int], *, upcast: bool = False) -> list[Pixels | None]:
        """(height, width, 3) uint8, rounded as VaeImageProcessor.numpy_to_pil does. upcast: there is nothing to do."""
        return [(latents[row] * 255).round().astype(np.uint8) for row in rows]

    def sigmas(self, row: ImageRow) -> list[float]:
        """Those of the scheduler after its last call; empty where it has none, or where they depend on the size."""
        return self._sigmas.get(row.num_inference_steps, [])

    def peak_memory(self) -> int:
        return peak_memory(self.torch_device)

    def _texts(self, rows: Sequence[ImageRow]) -> dict[str, Any]:
        """What the rows say and this pipeline takes; an encoder without a text of its own reads `prompt`."""
        said: dict[str, Any] = {"prompt": [row.prompt for row in rows]}
        said["prompt_2"] = [row.prompt_2 or row.prompt for row in rows]
        said["prompt_3"] = [row.prompt_3 or row.prompt for row in rows]
        if _has_negative(rows[0]):  # otherwise the pipeline's own default, which for SDXL are zeros and not ""
            said["negative_prompt"] = [row.negative_prompt for row in rows]
            said["negative_prompt_2"] = [row.negative_prompt_2 or row.negative_prompt for row in rows]
            said["negative_prompt_3"] = [row.negative_prompt_3 or row.negative_prompt for row in rows]
            if "negative_prompt" not in self.takes:
                raise ValueError(f"{type(self.pipe).__name__} takes no negative prompt")
        said["max_sequence_length"] = rows[0].max_sequence_length
        return {name: value for name, value in said.items() if name in self.takes}

    def _remember_sigmas(self, num_inference_steps: int) -> None:
        """Now and not when they are asked for: another shard may be at the scheduler by then."""
        scheduler = self.pipe.scheduler
        sigmas = getattr(scheduler, "sigmas", None)
        if sigmas is not None and not scheduler.config.get("use_dynamic_shifting"):
            self._sigmas[num_inference_steps] = [float(sigma) for sigma in sigmas]


def load_any(spec: ModelSpec) -> Any:
    """The pipeline of a checkpoint on this process's device, by the class that its model_index.json names.

    Safetensors only, and classes of diffusers and transformers only. Raises Refused where it cannot be had.
    """
    directory = verify(spec).directory
    name = class_in(directory)
    if problems := complaints(name):  # the planner may have another diffusers than this machine
        raise Refused([Problem(problem, str(directory)) for problem in problems])
    kind = getattr(diffusers, name)
    quieten(kind.__module__)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    # As in sd3.load, the dtype goes in here and never through .to().
    pipe = kind.from_pretrained(directory, dtype=_dtypes(spec), use_safetensors=True, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(pick_device())
    return pipe


def _dtypes(spec: ModelSpec) -> Any:
    """One for all, or by component as diffusers takes it; the denoiser of older models is called unet."""
    model = spec.model
    if isinstance(model.dtype, str):
        return DTYPES[model.dtype]
    names = [name for name in type(model.dtype).model_fields if name != "default"]
    each = {name: DTYPES[model.dtype_of(name)] for name in names}
    return each | {"unet": each["transformer"], "default": DTYPES[model.dtype.default or model.defaults.dtype]}


def _has_negative(row: ImageRow) -> bool:
    return bool(row.negative_prompt or row.negative_prompt_2 or row.negative_prompt_3)


def _check_one_call(rows: Sequence[ImageRow]) -> None:
    for name in SHARED:
        if len({getattr(row, name) for row in rows}) != 1:
            raise ValueError(f"rows of one call differ in {name}")
    if len({_has_negative(row) for row in rows}) != 1:
        raise ValueError("rows of one call differ in whether there is a negative prompt")
