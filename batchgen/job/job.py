"""The sections of a job file that are not about images, and the job itself, into which presets fill their defaults.

Knows the shape and the ranges of settings; does not look at the manifest, the store or the model. Defaults that come
from a checkpoint stand in `presets` with their source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from batchgen.columns import MANIFEST
from batchgen.job.engine import refuse_beyond_diffusers
from batchgen.job.kernels import refuse_impossible_kernels
from batchgen.job.model import Model, preset_named
from batchgen.job.sampling import LOOP, Refine, Sampling
from batchgen.job.section import Section
from batchgen.job.sweep import Sweep
from batchgen.words import is_plain, nearest


class Input(Section):
    """Where the prompts are. columns maps the manifest's names to ours: {caption: prompt}.

    It may also move a column of the user's own away from a name that batchgen uses: {image_id: source_image_id}.
    """

    path: str | list[str]
    columns: dict[str, str] = Field(default_factory=dict)
    keep_columns: list[str] | None = None

    @model_validator(mode="after")
    def check_columns(self) -> Self:
        for theirs, ours in self.columns.items():
            if ours not in MANIFEST and not _makes_room(theirs, ours):
                hint = nearest(ours, MANIFEST)
                raise ValueError(f"columns maps {theirs!r} to {ours!r}, which batchgen does not know.{hint}")
        doubled = sorted(ours for ours, count in Counter(self.columns.values()).items() if count > 1)
        if doubled:
            raise ValueError(f"columns maps several columns to {', '.join(doubled)}. Keep one.")
        return self


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
    """How many work at once. null: as many as there are GPUs, else as cores and memory allow; all start together."""

    min_size: Annotated[int, Field(ge=1)] | None = None
    max_size: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        if self.min_size and self.max_size and self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size} is larger than max_size {self.max_size}.")
        return self


class Cluster(Section):
    """Where it runs; never part of what is rendered. num_gpus null: one if the cluster has GPUs, else none."""

    address: str | None = None
    renderers: Renderers = Renderers()
    num_gpus: Annotated[float, Field(ge=0, le=8)] | None = None
    gpu_memory_gb: Annotated[float, Field(gt=0, le=1024)] | None = None  # of one card: `plan` says whether a job fits
    num_cpus: Annotated[float, Field(gt=0, le=64)] = 1
    price_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None


class Job(Section):
    """One job file. `Job.model_validate(mapping)` fills the preset's defaults; `load_job` also explains mistakes."""

    input: Input
    model: Model
    sampling: Sampling
    sweep: Sweep = Sweep()
    refine: Refine | None = None
    output: Output
    errors: Errors = Errors()
    cluster: Cluster = Cluster()

    @property
    def models(self) -> tuple[Model, Model]:
        """The model of the first pass and that of the second, which is the first's unless it has its own."""
        return self.model, (self.refine and self.refine.model) or self.model

    def in_cell(self, values: Mapping[str, Any]) -> Job:
        """The job as if its own sections said what a cell says of the loop and of a second pass."""
        loop = {name: values[name] for name in LOOP if name in values}
        refine = self.refine if values.get("refine", True) else None
        return self.model_copy(update={"sampling": self.sampling.model_copy(update=loop), "refine": refine})

    def with_renderers(self, renderers: Renderers) -> Job:
        """The job with another number of them, which changes no picture."""
        return self.model_copy(update={"cluster": self.cluster.model_copy(update={"renderers": renderers})})

    @model_validator(mode="before")
    @classmethod
    def fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("a job file is a mapping of sections: input, model, sampling, output, ...")
        values = {name: section for name, section in values.items() if section is not None}  # `sweep:` and no more
        if odd := [text for text in _texts(values) if not is_plain(text)]:
            raise ValueError(f"{odd[0]!r} holds a control character or half a surrogate pair. Leave it out.")
        model = values.get("model") or {}
        sampling = values.get("sampling") or {}
        if not isinstance(model, dict) or not isinstance(sampling, dict):
            return {"model": {}} | values
        preset = preset_named(model.get("preset", "sd3.5-medium"))
        from_preset = {key: getattr(preset, key) for key in Sampling.model_fields if hasattr(preset, key)}
        from_preset["skip_guidance_layers"] = list(preset.skip_guidance_layers)
        if isinstance(sampling.get("seeds"), list) and sampling["seeds"]:
            from_preset["num_images_per_prompt"] = len(sampling["seeds"])
        if isinstance(sampling.get("sigmas"), list) and sampling["sigmas"]:
            from_preset["num_inference_steps"] = len(sampling["sigmas"])
        return values | {"model": model, "sampling": from_preset | sampling}

    @model_validator(mode="after")
    def check_reuse(self) -> Self:
        reuse = self.sampling.reuse
        if reuse.model_fields_set and not reuse.is_on:
            raise ValueError("sampling.reuse: 1 is every step, so nothing is reused: write 2 or more, or leave it out.")
        return self

    @model_validator(mode="after")
    def check_engine(self) -> Self:
        refuse_beyond_diffusers(self.model, self.sampling, self.sweep, self.refine)
        return self

    @model_validator(mode="after")
    def check_kernels(self) -> Self:
        refuse_impossible_kernels(self.model, self.cluster.num_gpus)
        return self

    @model_validator(mode="after")
    def check_cells(self) -> Self:
        """What holds for `sampling` holds in every cell that says something of the loop."""
        found = []
        for cell, values in self.sweep.by_cell().items():
            said = {name: values[name] for name in values if name in Sampling.model_fields}
            if any(name in LOOP for name in values):
                try:
                    Sampling.model_validate(self.sampling.model_dump() | said)
                except ValidationError as error:
                    found += [f"cell {cell}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()]
        if found:
            raise ValueError("sweep: " + " ".join(found))
        return self

    @model_validator(mode="after")
    def check_skip_layers(self) -> Self:
        layers, found = self.model.defaults.transformer[0], list[str]()
        for cell, values in self.sweep.by_cell().items():
            sampling = self.in_cell(values).sampling
            given = sampling.skip_guidance_layers
            where = f"sweep: cell {cell}: " if any(name.startswith("skip") for name in values) else ""
            beyond = any(layer >= layers for layer in given)
            if beyond and not self.model.has_own_weights:  # which may have more of them, or fewer: rows.idle
                found.append(f"{where}skip_guidance_layers {given}: {self.model.preset} has layers 0 to {layers - 1}.")
            scales = [sampling.skip_layer_guidance_scale, values.get("skip_layer_guidance_scale", 0)]
            if max(scales) > 0 and not given:
                found.append(
                    f"{where}skip_layer_guidance_scale is on, but {self.model.preset} names no layers: write "
                    "sampling.skip_guidance_layers, for example [7, 8, 9]."
                )
        if found:
            raise ValueError(" ".join(dict.fromkeys(found)))
        return self

    @model_validator(mode="after")
    def check_adapters(self) -> Self:
        known = self.model.adapters
        for name in (self.sampling.adapter, *self.sweep.values_of("adapter")):
            if name and name not in known:
                listed = ", ".join(known) or "none"
                raise ValueError(f"adapter {name!r} is not in model.adapters ({listed}).{nearest(name, known)}")
        return self

    @model_validator(mode="after")
    def check_steps_of_sigmas(self) -> Self:
        if self.sampling.sigmas is not None and "num_inference_steps" in self.sweep.keys:
            raise ValueError("sampling.sigmas says how many steps there are: leave sweep.num_inference_steps out.")
        return self

    @model_validator(mode="after")
    def check_second_pass(self) -> Self:
        if "refine" in self.sweep.keys and self.refine is None:
            raise ValueError("sweep.refine turns the second pass on and off: say in a section refine what it is.")
        return self

    @model_validator(mode="after")
    def check_sweep(self) -> Self:
        mapped = {ours for ours in self.input.columns.values() if ours in self.sweep.keys and ours != "prompt"}
        if mapped:
            raise ValueError(
                f"sweep and input.columns both set {', '.join(sorted(mapped))}: a swept value cannot also be a column."
            )
        return self


def _makes_room(theirs: str, ours: str) -> bool:
    """Whether a renaming frees a name that batchgen uses. Any other unknown name is a typing error."""
    from batchgen.schema import OWN_COLUMNS  # brings pyarrow along, which few job files need

    used = OWN_COLUMNS.union(MANIFEST)
    return theirs in used and ours not in used and bool(ours.strip())


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
