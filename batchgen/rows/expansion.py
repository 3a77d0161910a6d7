"""What a planner's task must know of the job and its model to turn prompt rows into image rows.

Data, and one check of the job itself; knows no rows and no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from batchgen.job import LOOP, Job, Model, OnOverflow, Sampling
from batchgen.job.pipelines import Pipeline
from batchgen.job.sweep import as_column
from batchgen.rows.sizes import Limits, limits, refuse_impossible_sizes
from batchgen.run import rules
from batchgen.run.found_model import FoundModel
from batchgen.schema import BENCHMARK_PROMPT, CELL_FIELDS, SOURCE_FIELDS

# Settings of the model that decide pixels beside its weights and dtype. What the first runs did not have is left out of
# a fingerprint at its default, as all of them are.
OF_MODEL = ("engine", "text_encoder_3", "vae_tiling", "kernels", "attention")


@dataclass(frozen=True, slots=True)
class Cell:
    """values: the settings that it says. sampling: the job's, with what it says of the loop.

    columns: its values of Expansion.swept. decides: what decides its images beside their rows. guided_again: a second
    pass reads negative prompts too.
    """

    values: Mapping[str, Any]
    sampling: Sampling
    columns: tuple[tuple[str, Any], ...]
    decides: Mapping[str, Any]
    guided_again: bool

    @classmethod
    def of(cls, job: Job, values: Mapping[str, Any], model: FoundModel, kept: Mapping[str, int]) -> Self:
        """job: the whole one. kept: the rules of the run."""
        here = job.in_cell(values)
        said = dict(here.sampling) | {"refine": here.refine is not None}
        return cls(
            values=values,
            sampling=here.sampling,
            columns=tuple((name, as_column(said[name])) for name in job.sweep.columns),
            decides={"model_digest": model.digest, "dtype": job.model.dtypes}
            | ({"refiner": model.refiner.digest} if model.refiner and here.refine else {})
            | deciding(here)
            | rules.deciding(kept, here.sampling),
            guided_again=here.refine is not None and here.refine.guidance_scale > 1,
        )


@dataclass(frozen=True, slots=True)
class Expansion:
    """All that turns prompt rows into image rows. Small, frozen, picklable: it travels to every task.

    cells: by name, in order. extras: the user's own columns. sourced: of schema.SOURCE_FIELDS, those that are added to
    them. swept: columns of what cells say of the loop, and that of the table's own prompt
    where they say another.
    adapters: sha256 and scale of each alias. rules: of run.rules, those that the run keeps.
    pipeline: what one call of diffusers takes, where that is the engine.
    """

    sampling: Sampling
    cells: dict[str, Cell]
    columns: dict[str, str]
    extras: tuple[pa.Field, ...]
    sourced: tuple[pa.Field, ...]
    swept: tuple[pa.Field, ...]
    limits: Limits
    on_overflow: OnOverflow
    adapters: dict[str, list[Any]]
    rules: Mapping[str, int]
    pipeline: Pipeline | None = None

    @property
    def passed(self) -> tuple[pa.Field, ...]:
        """The columns that a plan has beside batchgen's own."""
        return self.extras + self.sourced + self.swept

    @classmethod
    def of(
        cls,
        job: Job,
        extras: Sequence[pa.Field],
        model: FoundModel,
        pipeline: Pipeline | None = None,
        kept: Mapping[str, int] | None = None,
        before: pa.Schema | None = None,
    ) -> Self:
        """kept, before: the rules of the run and the schema of its plan, if it is not a new one.

        Raises Refused where the job's own size, in some cell, is one that the model cannot make.
        """
        refuse_impossible_sizes(job, model)
        kept = rules.of(job, model) if kept is None else kept
        return cls(
            sampling=job.sampling,
            cells={name: Cell.of(job, values, model, kept) for name, values in job.sweep.by_cell().items()},
            columns=job.input.columns,
            extras=tuple(extras),
            sourced=_sourced(extras, before),
            swept=_swept(job, extras),
            limits=limits(job, model),
            on_overflow=job.errors.on_overflow,
            adapters={alias: [adapter.sha256, adapter.scale] for alias, adapter in model.adapters.items()},
            rules=kept,
            pipeline=pipeline,
        )


def _swept(job: Job, extras: Sequence[pa.Field]) -> tuple[pa.Field, ...]:
    found = [field for field in CELL_FIELDS if field.name in job.sweep.columns]
    if "prompt" in job.sweep.keys and BENCHMARK_PROMPT.name not in {field.name for field in extras}:
        found.append(BENCHMARK_PROMPT)
    return tuple(found)


def _sourced(extras: Sequence[pa.Field], before: pa.Schema | None) -> tuple[pa.Field, ...]:
    own = {field.name for field in extras}
    return tuple(
        field for field in SOURCE_FIELDS if field.name not in own and (before is None or field.name in before.names)
    )


def deciding(job: Job) -> dict[str, Any]:
    """Settings of the whole job that decide images, by name; what is at its default is left out."""
    model, sampling = job.model, job.sampling
    found: dict[str, Any] = {name: getattr(sampling, name) for name in LOOP if not name.startswith("skip")}
    usual: dict[str, Any] = {name: Sampling.model_fields[name].default for name in found}
    found["reuse"], usual["reuse"] = sampling.reuse.model_dump(), {}
    found |= {name: getattr(model, name) for name in OF_MODEL}
    usual |= {name: Model.model_fields[name].default for name in OF_MODEL}
    found |= {f"quantization.{name}": kind for name, kind in model.quantization.model_dump().items()}
    found["refine"] = job.refine and job.refine.model_dump(exclude={"model"})
    if job.refine and job.refine.model:
        again = job.refine.model
        found |= {"refine.model.dtype": again.dtypes, "refine.model.text_encoder_3": again.text_encoder_3 and "some"}
        usual["refine.model.text_encoder_3"] = "some"
        stored = again.quantization.model_dump().items()
        found |= {f"refine.model.quantization.{name}": kind for name, kind in stored}
    if found["text_encoder_3"] is not None:  # other weights are in the model's digest; none are a setting
        del found["text_encoder_3"]
    return {name: value for name, value in found.items() if value != usual.get(name)}
