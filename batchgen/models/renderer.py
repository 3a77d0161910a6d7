"""The protocol of a renderer, encode → denoise → decode, and the one function that makes one.

Policy (padding, splitting, retrying) is `batches.py`'s: a renderer does what it is told with exactly the rows
it is given. Imports no torch; embeddings and latents are opaque to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from batchgen.config import Model, Refine, Sampling

Pixels = npt.NDArray[np.uint8]  # (height, width, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """All of an image row that a renderer needs. Rows of one batch agree on everything that the bucket key holds."""

    image_id: str
    prompt: str
    prompt_2: str | None = None
    prompt_3: str | None = None
    negative_prompt: str = ""
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    max_sequence_length: int
    seed: int
    skip_layer_guidance_scale: float = 0.0
    negative_prompt_2: str | None = None
    negative_prompt_3: str | None = None
    adapter: str | None = None


# What a job may say anew of a run that is begun: where things lie. It changes no image.
PLACES = ("text_encoder", "text_encoder_2", "text_encoder_3", "vae", "config", "offload")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """A LoRA. path: a local file, or its URL. sha256: what the planner saw."""

    path: str
    sha256: str
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What an actor needs to build its renderer: resolved, so that every actor builds the same one.

    path: local directory or file, or a hub id together with `revision` (a commit). digest: what the planner saw.
    model, sampling: sections of the job. adapters: LoRAs by alias. refiner: of the second pass, if it has a checkpoint
    of its own.
    """

    path: str
    revision: str | None
    digest: str
    model: Model
    sampling: Sampling
    refine: Refine | None = None
    adapters: Mapping[str, AdapterFile] = field(default_factory=dict)
    refiner: ModelSpec | None = None

    @classmethod
    def from_plan(cls, found: Mapping[str, Any], job: Mapping[str, Any]) -> ModelSpec:
        """found: what a plan says of its model. job: its job."""
        refine = job.get("refine") and Refine.model_validate(job["refine"])
        refiner = found.get("refiner")
        sampling = Sampling.model_validate(job["sampling"])
        model = Model.model_validate(job["model"] | found.get("places", {}))
        if refiner and refine and refine.model:
            again = refine.model.model_copy(update={"offload": model.offload})
            refiner = cls(**refiner, model=again, sampling=sampling)
        return cls(
            path=found["path"],
            revision=found["revision"],
            digest=found["digest"],
            model=model,
            sampling=sampling,
            refine=refine or None,
            adapters={alias: AdapterFile(**adapter) for alias, adapter in found["adapters"].items()},
            refiner=refiner,
        )


class Renderer(Protocol):
    """One pipeline on one device. Not thread-safe: the caller holds a lock from encode to decode."""

    device: str  # 'NVIDIA H100 80GB HBM3', 'cpu'
    versions: dict[str, str]  # package → version, of whatever decides pixels

    def encode(self, rows: Sequence[ImageRow]) -> Sequence[Any]:
        """One opaque embedding per row. Deduplicated and cached; each text is encoded at a fixed batch size."""
        ...

    def denoise(self, rows: Sequence[ImageRow], embeds: Sequence[Any]) -> Any:
        """Latents (batch, 16, height/8, width/8). Row i depends on rows[i], embeds[i] and the batch size only.

        Raises OutOfMemory (smaller batch may work), RendererBroken (leave the process).
        """
        ...

    def finite(self, latents: Any) -> list[bool]:
        """Per row: are all latents finite?"""
        ...

    def decode(self, latents: Any, rows: Sequence[int], *, upcast: bool = False) -> list[Pixels | None]:
        """Pixels of the given rows of the batch, decoded one by one; None where the decoder gave NaN.

        upcast: run the VAE in fp32 (the second chance of a row whose decoding gave NaN).
        """
        ...

    def sigmas(self, num_inference_steps: int) -> list[float]:
        """The noise levels of the loop, num_inference_steps + 1 values from 1 to 0."""
        ...

    def peak_memory(self) -> int | None:
        """The most bytes that were in use so far: on the GPU, or without one by this process. None: not known."""
        ...


def load_renderer(spec: ModelSpec) -> Renderer:
    """Build the renderer of a model. Raises Refused where the weights are not what the plan saw."""
    if spec.model.preset == "fake":
        from batchgen.models.fake import FakeRenderer

        return FakeRenderer(spec)
    if spec.model.engine == "diffusers":
        from batchgen.models.pipeline import DiffusersRenderer

        return DiffusersRenderer.load(spec)
    from batchgen.models.sd3 import SD3Renderer

    first = SD3Renderer.load(spec)
    if spec.refine is None:
        return first
    from batchgen.models.refine import TwoPassRenderer

    return TwoPassRenderer(first, SD3Renderer.load(spec.refiner) if spec.refiner else first, spec.refine)
