"""Other models' pipelines, for `engine: diffusers`: what each takes of a row, and which tokenizers tell what it reads.

What a signature says is read from the installed diffusers (`signature.py`); the table holds what it does not say, with
its source in diffusers 0.42.1. Imports no torch and no diffusers, so that the planner can ask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batchgen.columns import OPTIONAL
from batchgen.job.signature import is_exported, parameters_of, text_to_image, version

SD3 = "StableDiffusion3Pipeline"
# What batchgen says in every call. A pipeline without one of these would render something else than the row says.
NEEDED = ("prompt", "height", "width", "num_inference_steps", "guidance_scale", "generator", "output_type")
# AutoPipelineForText2Image offers these too, but they draw nothing without another picture.
NEEDS_A_PICTURE = ("Control", "Kontext", "Inpaint", "Img2Img")
ALSO_TEXT_TO_IMAGE = {  # what AutoPipelineForText2Image of diffusers 0.42.1 leaves out
    "BriaPipeline", "HiDreamImagePipeline", "KolorsPAGPipeline", "KolorsPipeline", "SanaSprintPipeline",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """What the signature does not say.

    counted: counter in rows.tokens → (folder of its tokenizer, the text that it reads). A pipeline that rewrites
    prompts before it reads them (PixArt, Sana) or has another tokenizer than CLIP's or T5's is not counted.
    ragged: prompts are padded to the longest of a batch, so that an image depends on its neighbours' prompts.
    side: height and width are multiples of it. negative: negative prompts work with guidance_scale alone.
    """

    counted: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    side: int = 16
    negative: bool = True
    ragged: bool = False


KNOWN = {
    "StableDiffusionPipeline": Known({"clip_l": ("tokenizer", "prompt")}),
    "LatentConsistencyModelPipeline": Known({"clip_l": ("tokenizer", "prompt")}),
    "StableDiffusionXLPipeline": Known({"clip_l": ("tokenizer", "prompt"), "clip_g": ("tokenizer_2", "prompt_2")}),
    SD3: Known(
        {
            "clip_l": ("tokenizer", "prompt"),
            "clip_g": ("tokenizer_2", "prompt_2"),
            "t5": ("tokenizer_3", "prompt_3"),
        }
    ),
    # guidance_scale is an input of the distilled transformer; negative prompts would need true_cfg_scale.
    "FluxPipeline": Known({"clip_l": ("tokenizer", "prompt"), "t5": ("tokenizer_2", "prompt_2")}, negative=False),
    "ChromaPipeline": Known({"t5": ("tokenizer", "prompt")}),
    "CogView4Pipeline": Known(ragged=True),
    "GlmImagePipeline": Known(ragged=True),
    "LuminaPipeline": Known(ragged=True),
    "NucleusMoEImagePipeline": Known(ragged=True),
    "ZImagePipeline": Known(ragged=True),  # in the transformer
    "SanaPipeline": Known(side=32),  # check_inputs
    "SanaSprintPipeline": Known(side=32),
}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A class of diffusers that renders text to images. takes: parameters of its __call__ that batchgen may set."""

    name: str
    takes: frozenset[str]
    side: int
    counted: Mapping[str, tuple[str, str]]
    ragged: bool = False

    @classmethod
    def named(cls, name: str) -> Pipeline:
        """Of a class that complaints() has nothing against."""
        known = KNOWN.get(name, Known())
        taken = parameters_of(name) & {*NEEDED, *OPTIONAL}
        if not known.negative:
            taken -= {parameter for parameter in OPTIONAL if parameter.startswith("negative")}
        return cls(name, taken, known.side, known.counted, known.ragged)

    @property
    def lacks(self) -> list[str]:
        return [name for name in OPTIONAL if name not in self.takes]


def class_in(directory: Path) -> str:
    """The class that a directory's model_index.json names; empty where it names none."""
    try:
        index = json.loads(directory.joinpath("model_index.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    name = index.get("_class_name") if isinstance(index, dict) else None
    return name if isinstance(name, str) else ""


def complaints(name: object) -> list[str]:
    """What keeps batchgen from rendering with a class: diffusers lacks it, it needs pictures, it takes no guidance."""
    if not isinstance(name, str) or not is_exported(name) or not parameters_of(name):
        return [
            f"model_index.json says {name}, which diffusers {version()} does not have. batchgen runs no code from a "
            "model: choose another model, or install the diffusers that has this pipeline."
        ]
    parameters = parameters_of(name)
    listed = name in KNOWN or name in ALSO_TEXT_TO_IMAGE or name in text_to_image()
    if not listed or "num_frames" in parameters or any(word in name for word in NEEDS_A_PICTURE):
        return [f"model_index.json says {name}, which is no text-to-image pipeline: choose one that is, such as {SD3}."]
    if missing := [parameter for parameter in NEEDED if parameter not in parameters]:
        return [f"{name} takes no {', '.join(missing)}, which batchgen sets for every row: choose another model."]
    if "true_cfg_scale" in parameters and name not in KNOWN:
        return [f"{name} has a second guidance scale, true_cfg_scale, which batchgen cannot set: choose another model."]
    return []
