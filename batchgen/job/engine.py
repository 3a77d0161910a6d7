"""Which settings `engine: diffusers` does not have: a pipeline's own __call__ decides what they would change.

Knows settings and no model; what a certain pipeline takes of a row `pipelines` says.
"""

from __future__ import annotations

from collections.abc import Iterator

from batchgen.job.model import TEXT_ENCODERS, Model
from batchgen.job.sampling import LOOP, Refine, Sampling
from batchgen.job.sweep import Sweep

# Settings of the model that change how batchgen's own loop loads or runs it.
LOADING = ("config", *TEXT_ENCODERS, "vae", "quantization", "offload", "vae_tiling", "kernels", "attention")


def refuse_beyond_diffusers(model: Model, sampling: Sampling, sweep: Sweep, refine: Refine | None) -> None:
    """Raises ValueError with all settings that are asked for and would be ignored."""
    if model.engine != "diffusers":
        return
    asked = [*_of_model(model), *_of_sampling(model, sampling, sweep)]
    if refine is not None:
        asked.append("refine")
    if asked:
        raise ValueError(
            f"engine: diffusers renders through the pipeline's own call, which batchgen does not give "
            f"{', '.join(asked)}: leave out what is named, or write engine: batchgen for SD3 and SD3.5."
        )


def _of_model(model: Model) -> Iterator[str]:
    for name in LOADING:
        if getattr(model, name) != Model.model_fields[name].default:
            yield f"model.{name}"
    if model.pretrained_model_name_or_path.endswith(".safetensors"):
        yield "model.pretrained_model_name_or_path of one file"
    if model.adapters:
        yield "model.adapters"


def _of_sampling(model: Model, sampling: Sampling, sweep: Sweep) -> Iterator[str]:
    usual = {name: Sampling.model_fields[name].default for name in LOOP}
    usual["skip_guidance_layers"] = list(model.defaults.skip_guidance_layers)
    usual |= {"skip_layer_guidance_scale": 0.0, "adapter": None}
    for name, value in usual.items():
        if getattr(sampling, name) != value:
            yield f"sampling.{name}"
    for name in ("skip_layer_guidance_scale", "adapter"):
        if any(sweep.values_of(name)):
            yield f"sweep.{name}"
    yield from (f"sweep.{name}" for name in sweep.columns)
