"""One image in words: every fact, and the diffusers code that draws it. Knows rows, no files and no renderer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jinja2 import Environment

from batchgen.columns import DECIDING
from batchgen.job import Refine, Reuse
from batchgen.job.pipelines import SD3, Pipeline
from batchgen.job.steps import refined_size
from batchgen.job.stored import stored_section
from batchgen.job.sweep import from_columns
from batchgen.words import visible

# Levels are given as they were used: a shift of 1 leaves them as they are.
SNIPPET = """\
import torch
{% if compiled %}
import torch._inductor.config
{% endif %}
from diffusers import {{ classes | join(", ") }}

{% for note in notes %}
# {{ note }}
{% endfor %}
pipe = {{ classes[-1] }}.from_pretrained({{ model }}, dtype={{ dtype }})
{% if sigmas %}
scheduler = pipe.scheduler
pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift=1.0)
{% endif %}
{% if compiled %}
torch._inductor.config.deterministic = True
for block in pipe.transformer.transformer_blocks:
    block.compile(fullgraph=True, dynamic=False)
{% endif %}
{% if adapter %}
pipe.load_lora_weights({{ adapter.path | repr }}, adapter_name={{ alias | repr }})
pipe.set_adapters([{{ alias | repr }}], [{{ adapter.scale }}])
{% endif %}
generator = torch.Generator("cpu").manual_seed({{ seed }})
image = pipe(
{% for name, value in arguments.items() %}
    {{ name }}={{ value | repr }},
{% endfor %}
    generator=generator,
{% if again %}
    output_type="latent",
).images
larger = torch.nn.functional.interpolate(image.float(), size={{ size }}, mode={{ method | repr }}).to(image.dtype)
{% if sigmas %}
again = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config{% if shift %}, shift={{ shift }}{% endif %})
image = StableDiffusion3Img2ImgPipeline(**pipe.components | {"scheduler": again})(
{% else %}
image = StableDiffusion3Img2ImgPipeline(**pipe.components)(
{% endif %}
    image=larger,
{% for name, value in again.items() %}
    {{ name }}={{ value | repr }},
{% endfor %}
    generator=generator,
{% endif %}
).images[0]
"""
PYTHON = Environment(trim_blocks=True, autoescape=False)
PYTHON.filters["repr"] = repr
TEMPLATE = PYTHON.from_string(SNIPPET)
ARGUMENTS = tuple(name for name in DECIDING if name not in ("seed", "adapter"))
OPTIONAL = (*(name for name in ARGUMENTS if "prompt" in name and name != "prompt"), "skip_layer_guidance_scale")
FIRST_PASS = ("num_inference_steps", "guidance_scale", "height", "width", "sigmas")  # and skip-layer guidance
SUFFIX = ".safetensors"
WHOLE = {"guidance_start": 0.0, "guidance_stop": 1.0, "negative_prompt_stop": 1.0}  # without guidance
LAST = ("sigmas", "versions", "settings")  # long, and rarely looked for


def facts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of all that a metadata row says; what is null is left out."""
    for name in [*(name for name in row if name not in LAST), *LAST]:
        value = row.get(name)
        if isinstance(value, str):
            yield name, value if value.isprintable() else repr(value)  # a prompt's line end must not look like a fact
        elif value is not None:
            yield name, json.dumps(value, default=str)


def snippet(row: dict[str, Any]) -> str:
    """Python that draws the same picture with diffusers alone; another batch size rounds differently.

    What diffusers' pipeline cannot do stands in it as a comment.
    """
    settings = json.loads(row["settings"])
    swept = from_columns(row, settings.get("swept", []))
    model, sampling = settings["model"], settings["sampling"] | swept
    refine = stored_section(Refine, settings["refine"]) if settings["refine"] and swept.get("refine", True) else None
    pipeline = settings.get("pipeline", SD3)
    lacks = Pipeline.named(pipeline).lacks if pipeline != SD3 else []
    arguments = {name: row[name] for name in ARGUMENTS if name not in lacks and (name not in OPTIONAL or row[name])}
    if row["skip_layer_guidance_scale"]:
        arguments |= {name: value for name, value in sampling.items() if name.startswith("skip_")}
    sigmas = _first_levels(row["sigmas"]) if _has_own_levels(sampling) else []
    if sigmas:
        arguments["sigmas"] = sigmas
    classes = [
        *(["FlowMatchEulerDiscreteScheduler"] if sigmas else []),
        *(["StableDiffusion3Img2ImgPipeline"] if refine else []),
    ]
    height, width = refined_size(refine, row["height"], row["width"])
    where = repr(row["model"]) + (f", revision={row['revision']!r}" if row["revision"] else "")
    return TEMPLATE.render(
        classes=[*classes, pipeline],
        notes=[*map(visible, _notes(model, sampling if row["guidance_scale"] > 1 else sampling | WHOLE, refine))],
        model=where + (", text_encoder_3=None" if model["text_encoder_3"] is None else ""),
        dtype=_dtype(model["dtype"]),
        compiled=model.get("kernels", "eager") != "eager",  # runs of before do not say it
        sigmas=sigmas,
        shift=sampling["shift"],
        alias=row["adapter"],
        adapter=model["adapters"].get(row["adapter"]),
        seed=row["seed"],
        arguments=arguments,
        again=refine and _second(arguments, refine, height, width),
        size=(height // 8, width // 8),
        method=refine and refine.upscale_method,
    )


def _second(arguments: dict[str, Any], refine: Refine, height: int, width: int) -> dict[str, Any]:
    kept = {name: value for name, value in arguments.items() if name not in FIRST_PASS and not name.startswith("skip_")}
    own = {"strength": refine.strength, "num_inference_steps": refine.num_inference_steps}
    return kept | own | {"guidance_scale": refine.guidance_scale, "height": height, "width": width}


def _has_own_levels(sampling: dict[str, Any]) -> bool:
    return sampling["schedule"] != "normal" or sampling["shift"] is not None or sampling["sigmas"] is not None


def _first_levels(sigmas: list[float]) -> list[float]:
    """Noise levels of the first pass, without the 0 at the end."""
    return sigmas[: sigmas.index(0.0)]


def _dtype(dtype: str | dict[str, str | None]) -> str:
    if isinstance(dtype, str):
        return f"torch.{dtype}"
    return "{" + ", ".join(f"{name!r}: torch.{value}" for name, value in dtype.items() if value) + "}"


def _notes(model: dict[str, Any], sampling: dict[str, Any], refine: Refine | None) -> Iterator[str]:
    """What was done to this image and this code does not do."""
    if sampling["sampler"] != "euler":
        yield f"rendered with the sampler {sampling['sampler']}, which this pipeline does not have"
    if (sampling["guidance_start"], sampling["guidance_stop"]) != (0.0, 1.0):
        window = f"from {sampling['guidance_start']:g} to {sampling['guidance_stop']:g} of the steps"
        yield f"rendered with guidance {window} only; here it is on in all of them"
    if (stop := sampling.get("negative_prompt_stop", 1.0)) < 1:  # runs of before do not say it
        yield f"rendered against embeddings of zeros from {stop:g} of the steps on; here against the negative prompt"
    places = (model[name] for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "vae"))
    if (reuse := Reuse.of(sampling.get("reuse", {}))).is_on:
        yield f"rendered with sampling.reuse {reuse}; here every step computes everything"
    if files := [path for path in (model["pretrained_model_name_or_path"], *places) if str(path).endswith(SUFFIX)]:
        yield f"rendered from single files ({', '.join(files)}); from_pretrained reads a directory that diffusers saved"
    if "://" in (place := model["mirror"] or model["pretrained_model_name_or_path"]):
        yield f"rendered from {place}: from_pretrained needs a copy of that directory on this disk"
    if stored := [f"{name} as {kind}" for name, kind in model["quantization"].items() if kind]:
        yield f"rendered with {', '.join(stored)}; here weights are as they lie"
    if model.get("kernels") == "compiled_fp8":
        yield "rendered with products of fp8 numbers in the transformer's blocks; here they are of the model's dtype"
    if (kernel := model.get("attention", "auto")) != "auto":
        yield f"rendered with the attention kernel {kernel}; here torch chooses (torch.nn.attention.sdpa_kernel)"
    if refine is not None and refine.model is not None:
        yield f"the second pass was rendered with {refine.model.pretrained_model_name_or_path}; here it is the first's"
    if refine is not None and sampling["schedule"] != "normal":
        yield f"the second pass was rendered on the schedule {sampling['schedule']}; here it is normal"
    if model["vae_tiling"]:
        yield "rendered with tiles of the VAE: pipe.vae.enable_tiling()"
    if remote := [adapter["path"] for adapter in model["adapters"].values() if "://" in adapter["path"]]:
        yield f"LoRAs were read from {', '.join(remote)}; load_lora_weights needs a local copy"
