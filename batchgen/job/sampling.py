"""`sampling:` and `refine:` of a job file: what decides an image beside its prompt and the weights.

Knows ranges; what samplers and schedules compute is in `engines.sd3`.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from batchgen.columns import MAX_IMAGES_PER_PROMPT
from batchgen.job.model import Model
from batchgen.job.reuse import Reuse
from batchgen.job.section import Guidance, Section, Seed, Share, Side, Steps, Tokens

Sampler = Literal["euler", "dpmpp_2m", "euler_ancestral"]
Schedule = Literal["normal", "simple", "sgm_uniform", "beta"]
Sigma = Annotated[float, Field(gt=0, le=1)]
Layers = list[Annotated[int, Field(ge=0)]]
Shift = Annotated[float, Field(ge=0.01, le=100)]  # beyond it, levels of 200 steps are no levels in 32 bits


# Settings of the loop: one value for all images of a run, whatever generation they are of.
LOOP = (
    "guidance_start",
    "guidance_stop",
    "skip_guidance_layers",
    "skip_layer_guidance_start",
    "skip_layer_guidance_stop",
    "sampler",
    "schedule",
    "shift",
    "sigmas",
    "negative_prompt_stop",
    "reuse",
)
# Of these, what the first runs did not have: a run's facts leave such a value out.
LATER = {"negative_prompt_stop": 1.0, "reuse": {}}


class Sampling(Section):
    """What a manifest row does not say. Names are those of StableDiffusion3Pipeline.__call__ where it has them.

    guidance_start, guidance_stop: guidance is on in steps from n × start to before n × stop, as in diffusers' guiders.
    negative_prompt_stop: the negative prompt counts before step n × stop, and embeddings of zeros from there on.
    sampler, schedule: by the names of ComfyUI, `euler` and `normal` being diffusers'. shift: None is the checkpoint's.
    sigmas: noise levels instead of a schedule; shifted, as in diffusers (shift: 1 leaves them as they are).
    adapter: an alias of model.adapters. reuse: what steps take over from the steps before them.
    """

    height: Side
    width: Side
    num_inference_steps: Steps
    guidance_scale: Guidance
    max_sequence_length: Tokens
    num_images_per_prompt: Annotated[int, Field(ge=1, le=MAX_IMAGES_PER_PROMPT)] = 1
    negative_prompt: str = ""
    negative_prompt_2: str | None = None  # None: negative_prompt, as in diffusers
    negative_prompt_3: str | None = None
    seed: Seed = 0
    seeds: list[Seed] | None = None
    adapter: str | None = None
    guidance_start: Share = 0.0
    guidance_stop: Share = 1.0
    negative_prompt_stop: Share = 1.0
    skip_layer_guidance_scale: Guidance = 0.0  # off, as in diffusers unless skip_guidance_layers is given
    skip_guidance_layers: Layers
    skip_layer_guidance_start: Share = 0.01  # diffusers 0.42.1 and Stability-AI/sd3.5
    skip_layer_guidance_stop: Share = 0.2  # the same two
    sampler: Sampler = "euler"
    schedule: Schedule = "normal"
    shift: Shift | None = None
    sigmas: list[Sigma] | None = None
    reuse: Reuse = Reuse()

    @field_validator("adapter", "negative_prompt_2", "negative_prompt_3")
    @classmethod
    def none_is_none(cls, text: str | None) -> str | None:
        return text or None

    @model_validator(mode="after")
    def check_seeds(self) -> Self:
        if self.seeds is not None and len(self.seeds) != self.num_images_per_prompt:
            raise ValueError(
                f"seeds has {len(self.seeds)} entries but num_images_per_prompt is {self.num_images_per_prompt}: "
                "give one seed per image."
            )
        return self

    @model_validator(mode="after")
    def check_sigmas(self) -> Self:
        if self.sigmas is None:
            return self
        if not self.sigmas:
            raise ValueError("sigmas is empty: write levels that fall from 1, or leave it out.")
        if self.schedule != "normal":
            raise ValueError(f"sigmas are the levels, and schedule: {self.schedule} would make others. Keep one.")
        if any(one <= two for one, two in itertools.pairwise(self.sigmas)):
            raise ValueError("sigmas must fall from one to the next; the 0 at the end is added.")
        if len(self.sigmas) != self.num_inference_steps:
            raise ValueError(f"sigmas has {len(self.sigmas)} entries: write num_inference_steps: {len(self.sigmas)}.")
        return self

    @model_validator(mode="after")
    def check_windows(self) -> Self:
        for name in ("guidance", "skip_layer_guidance"):
            if getattr(self, f"{name}_start") > getattr(self, f"{name}_stop"):
                raise ValueError(f"{name}_start is larger than {name}_stop.")
        steps = self.num_inference_steps
        if self.guidance_scale > 1 and int(self.guidance_start * steps) >= int(self.guidance_stop * steps):
            raise ValueError(f"guidance_start to guidance_stop holds none of the {steps} steps: widen it.")
        return self


SECOND_MODEL = (  # what refine.model may say
    "preset",
    "pretrained_model_name_or_path",
    "revision",
    "mirror",
    "dtype",
    "quantization",
    "config",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "vae",
)


class Refine(Section):
    """A second pass over every image: its latents enlarged, partly noised again, and denoised at that size.

    scale: of height and width; sides are rounded to multiples of 16. strength: share of the steps that run, as in
    diffusers' image-to-image pipeline. model: another checkpoint for this pass; without it, the same.
    """

    scale: Annotated[float, Field(ge=1, le=4)] = 1.5
    strength: Annotated[float, Field(gt=0, le=1)] = 0.4
    num_inference_steps: Steps = 28
    guidance_scale: Guidance = 4.5
    upscale_method: Literal["nearest-exact", "bilinear", "bicubic"] = "nearest-exact"  # the default of ComfyUI
    model: Model | None = None

    @model_validator(mode="after")
    def check_model(self) -> Self:
        """What a second checkpoint may say; the VAE that decodes, the batch and the offload are the first's."""
        model = self.model
        if model is None:
            return self
        if model.preset in ("fake", "diffusers"):
            raise ValueError(f"model.preset {model.preset} has no second pass: name one of SD3 or SD3.5.")
        usual = {name: field.get_default(call_default_factory=True) for name, field in Model.model_fields.items()}
        others = [name for name in usual if name not in SECOND_MODEL and getattr(model, name) != usual[name]]
        if others:
            raise ValueError(
                f"model cannot say {', '.join(others)} here: leave it out, or write it in the job's model."
            )
        return self
