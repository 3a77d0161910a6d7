"""The job file: frozen pydantic models, one per section. An unknown key is an error that names the nearest one.

Knows the shape and the ranges of settings and the defaults of presets; does not look at the manifest, the
store or the model. Defaults that come from a checkpoint stand in `models/presets.py` with their source.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batchgen.models.presets import PRESETS, Preset

# Names of manifest columns with a meaning; `input.columns` maps the user's names to them.
PROMPT_COLUMNS = ("id", "prompt", "negative_prompt", "prompt_2", "prompt_3")
SAMPLING_COLUMNS = (
    "seed",
    "height",
    "width",
    "aspect_ratio",
    "num_images_per_prompt",
    "num_inference_steps",
    "guidance_scale",
    "skip_layer_guidance_scale",
    "max_sequence_length",
)
MANIFEST_COLUMNS = PROMPT_COLUMNS + SAMPLING_COLUMNS

MAX_SEED = 2**63 - 1  # what an int64 column holds; torch.Generator takes more
MAX_STEPS = 200
MAX_GUIDANCE = 50.0
MAX_IMAGES_PER_PROMPT = 10_000
MAX_T5_TOKENS = 512  # StableDiffusion3Pipeline.check_inputs, diffusers 0.42.1

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=MAX_GUIDANCE, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=16, le=16_384)]
Tokens = Annotated[int, Field(ge=1, le=MAX_T5_TOKENS)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Input(Section):
    """Where the prompts are. columns maps the manifest's names to ours: {caption: prompt}.

    It may also move a column of the user's own away from a name that batchgen uses: {image_id: source_image_id}.
    """

    path: str | list[str]
    columns: dict[str, str] = {}
    keep_columns: list[str] | None = None

    @model_validator(mode="after")
    def check_columns(self) -> Self:
        for theirs, ours in self.columns.items():
            if ours not in MANIFEST_COLUMNS and not _makes_room(theirs, ours):
                hint = nearest(ours, MANIFEST_COLUMNS)
                raise ValueError(f"columns maps {theirs!r} to {ours!r}, which batchgen does not know.{hint}")
        doubled = sorted({ours for ours in self.columns.values() if list(self.columns.values()).count(ours) > 1})
        if doubled:
            raise ValueError(f"columns maps several columns to {', '.join(doubled)}. Keep one.")
        return self


class Model(Section):
    """Which weights. A preset gives the defaults; pretrained_model_name_or_path replaces its weights.

    batch_size: 'auto' takes the preset's table. It is part of what decides an image (README, promise P2).
    """

    preset: str = "sd3.5-medium"
    pretrained_model_name_or_path: str = ""
    revision: str | None = None
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"

    @property
    def defaults(self) -> Preset:
        return PRESETS[self.preset]


class Sampling(Section):
    """What a manifest row does not say. Names are those of StableDiffusion3Pipeline.__call__."""

    height: Side
    width: Side
    num_inference_steps: Steps
    guidance_scale: Guidance
    max_sequence_length: Tokens
    num_images_per_prompt: Annotated[int, Field(ge=1, le=MAX_IMAGES_PER_PROMPT)] = 1
    negative_prompt: str = ""
    seed: Seed = 0
    seeds: list[Seed] | None = None
    skip_layer_guidance_scale: Guidance = 0.0  # off, as in diffusers unless skip_guidance_layers is given
    skip_guidance_layers: list[Annotated[int, Field(ge=0)]]
    skip_layer_guidance_start: Annotated[float, Field(ge=0, le=1)] = 0.01  # diffusers 0.42.1 and Stability-AI/sd3.5
    skip_layer_guidance_stop: Annotated[float, Field(ge=0, le=1)] = 0.2  # diffusers 0.42.1; Stability-AI/sd3.5: 0.30

    @model_validator(mode="after")
    def check_seeds(self) -> Self:
        if self.seeds is not None and len(self.seeds) != self.num_images_per_prompt:
            raise ValueError(
                f"seeds has {len(self.seeds)} entries but num_images_per_prompt is {self.num_images_per_prompt}: "
                "give one seed per image."
            )
        return self


class Sweep(Section):
    """Axes over sampling keys; every combination is a cell, rendered with the same seeds."""

    height: list[Side] | None = None
    width: list[Side] | None = None
    num_inference_steps: list[Steps] | None = None
    guidance_scale: list[Guidance] | None = None
    max_sequence_length: list[Tokens] | None = None
    negative_prompt: list[str] | None = None
    skip_layer_guidance_scale: list[Guidance] | None = None

    @model_validator(mode="after")
    def check_axes(self) -> Self:
        for name, values in self.axes().items():
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} needs at least one value and none twice.")
        return self

    def axes(self) -> dict[str, list[Any]]:
        return {name: values for name, values in self.model_dump().items() if values is not None}

    def cells(self) -> dict[str, dict[str, Any]]:
        """Cell name → the sampling values it sets. Without axes: one cell, 'default'."""
        axes = self.axes()
        combinations = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
        return {cell_name(values): values for values in combinations}


def cell_name(values: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items()) or "default"


class Output(Section):
    path: str
    image_format: Literal["png", "webp", "jpeg"] = "png"
    image_quality: Annotated[int, Field(ge=1, le=100)] | None = None  # of webp and jpeg; images.FORMATS has the usual
    images_per_shard: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"

    @model_validator(mode="after")
    def check_quality(self) -> Self:
        if self.image_format == "png" and self.image_quality is not None:
            raise ValueError("image_quality is for webp and jpeg; png loses nothing. Leave it out, or name a format.")
        return self


class OnOverflow(Section):
    """What to do with prompts longer than an encoder reads. Dense captions always exceed CLIP's 77 tokens."""

    clip: Literal["keep", "skip", "refuse"] = "keep"
    t5: Literal["keep", "skip", "refuse"] = "keep"


class Errors(Section):
    bad_rows: Literal["refuse", "skip"] = "refuse"
    on_overflow: OnOverflow = OnOverflow()
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01


class Renderers(Section):
    min_size: Annotated[int, Field(ge=1)] = 1
    max_size: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size} is larger than max_size {self.max_size}.")
        return self


class Cluster(Section):
    """Where it runs; never part of what is rendered. num_gpus null: one if the cluster has GPUs, else none."""

    address: str | None = None
    renderers: Renderers = Renderers()
    num_gpus: Annotated[float, Field(ge=0, le=8)] | None = None
    num_cpus: Annotated[float, Field(gt=0, le=64)] = 1
    price_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None


class Job(Section):
    """One job file. `Job.model_validate(mapping)` fills the preset's defaults; `load_job` also explains mistakes."""

    input: Input
    model: Model
    sampling: Sampling
    sweep: Sweep = Sweep()
    output: Output
    errors: Errors = Errors()
    cluster: Cluster = Cluster()

    @model_validator(mode="before")
    @classmethod
    def fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("a job file is a mapping of sections: input, model, sampling, output, ...")
        values = {name: section for name, section in values.items() if section is not None}  # `sweep:` and no more
        if odd := [text for text in _texts(values) if not _is_plain(text)]:
            raise ValueError(f"{odd[0]!r} holds a control character or half a surrogate pair. Leave it out.")
        model = values.get("model") or {}
        sampling = values.get("sampling") or {}
        if not isinstance(model, dict) or not isinstance(sampling, dict):
            return {"model": {}} | values
        name = str(model.get("preset", "sd3.5-medium"))
        if name not in PRESETS:
            raise ValueError(
                f"model.preset {name!r} is not known.{nearest(name, PRESETS)} Presets: {', '.join(PRESETS)}."
            )
        preset = PRESETS[name]
        model = {
            "preset": name,
            "dtype": preset.dtype,
            "pretrained_model_name_or_path": preset.pretrained_model_name_or_path,
        } | model
        from_preset = {key: getattr(preset, key) for key in Sampling.model_fields if hasattr(preset, key)}
        from_preset["skip_guidance_layers"] = list(preset.skip_guidance_layers)
        if isinstance(sampling.get("seeds"), list) and sampling["seeds"]:
            from_preset["num_images_per_prompt"] = len(sampling["seeds"])
        return values | {"model": model, "sampling": from_preset | sampling}

    @model_validator(mode="after")
    def check_skip_layers(self) -> Self:
        layers, sampling = self.model.defaults.transformer[0], self.sampling
        if any(layer >= layers for layer in sampling.skip_guidance_layers):
            given = sampling.skip_guidance_layers
            raise ValueError(f"skip_guidance_layers {given}: {self.model.preset} has layers 0 to {layers - 1}.")
        scales = [sampling.skip_layer_guidance_scale, *(self.sweep.skip_layer_guidance_scale or [])]
        if max(scales) > 0 and not sampling.skip_guidance_layers:
            raise ValueError(
                f"skip_layer_guidance_scale is on, but {self.model.preset} names no layers: write "
                "sampling.skip_guidance_layers, for example [7, 8, 9]."
            )
        if sampling.skip_layer_guidance_start > sampling.skip_layer_guidance_stop:
            raise ValueError("skip_layer_guidance_start is larger than skip_layer_guidance_stop.")
        return self

    @model_validator(mode="after")
    def check_sweep(self) -> Self:
        mapped = {ours for ours in self.input.columns.values() if ours in self.sweep.axes()}
        if mapped:
            raise ValueError(
                f"sweep and input.columns both set {', '.join(sorted(mapped))}: a swept value cannot also be a column."
            )
        return self


def _makes_room(theirs: str, ours: str) -> bool:
    """Whether a renaming frees a name that batchgen uses. Any other unknown name is a typing error."""
    from batchgen.schema import OWN_COLUMNS  # brings pyarrow along, which few job files need

    used = OWN_COLUMNS.union(MANIFEST_COLUMNS)
    return theirs in used and ours not in used and bool(ours.strip())


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that is most like this one, or nothing."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), "")


def _texts(values: Any) -> Iterator[str]:
    """Every string in nested values, keys included."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)


def _is_plain(text: str) -> bool:
    """Neither half a surrogate pair nor a control character but tab and line ends, as for prompts in a manifest."""
    return not any((c < " " and c not in "\t\n\r") or "\ud800" <= c <= "\udfff" for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean x?' or nothing."""
    close = closest(word, known)
    return f" Did you mean {close}?" if close else ""
