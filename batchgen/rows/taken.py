"""Refuses what a job or a row asks of a pipeline of diffusers that does not accept it, before a GPU is used.

No parameter is left out silently. Knows columns and which of them a pipeline takes (`job.pipelines`), no files but
model_index.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from batchgen.columns import TEXTS
from batchgen.errors import Problem, Refused
from batchgen.job import Job, Sampling
from batchgen.job.pipelines import SD3, Pipeline, class_in
from batchgen.job.steps import snap
from batchgen.manifest.checks import flagged
from batchgen.manifest.values import Rows, without
from batchgen.rows.sizes import Sizes

NOT_TAKEN = "NOT_TAKEN"
ENCODERS = {"clip": ("clip_l", "clip_g"), "t5": ("t5",)}


def pipeline_of(job: Job, directory: Path) -> Pipeline | None:
    """The pipeline of a job with `engine: diffusers`, else None. directory: holds model_index.json.

    Raises Refused with everything that the job says and this pipeline does not take.
    """
    if job.model.engine != "diffusers":
        return None
    pipeline = Pipeline.named(class_in(directory))
    problems = [*_of_job(job, pipeline)]
    if pipeline.name != SD3 and job.model.preset not in ("diffusers", "fake"):
        told = f"{job.model.preset} is {SD3}, but the model is {pipeline.name}: write diffusers"
        problems.append(Problem(told, "model.preset"))
    if problems:
        raise Refused(problems)
    return pipeline


def _of_job(job: Job, pipeline: Pipeline) -> Iterator[Problem]:
    sampling, sweep, preset = job.sampling, job.sweep.keys, job.model.defaults
    usual = {name: Sampling.model_fields[name].default for name in Sampling.model_fields}
    usual |= {name: getattr(preset, name) for name in pipeline.lacks if hasattr(preset, name)}
    for name in pipeline.lacks:
        if getattr(sampling, name, None) != usual.get(name):
            yield Problem(f"{pipeline.name} does not take it: leave it out.", f"sampling.{name}")
        if name in sweep:
            yield Problem(f"{pipeline.name} does not take it: leave it out.", f"sweep.{name}")
    for cell, values in job.sweep.by_cell().items():
        height, width = snap(values.get("height", sampling.height), values.get("width", sampling.width))
        if height % pipeline.side or width % pipeline.side:
            where = "sampling: height, width" if cell == "default" else f"sweep: cell {cell}"
            yield Problem(f"{height} × {width}: {_sides(pipeline)}.", where)
    if pipeline.ragged and job.model.batch_size != 1:
        told = f"{pipeline.name} pads prompts to the longest of a batch, so neighbours would change an image: write 1."
        yield Problem(told, "model.batch_size")
    for encoder, counters in ENCODERS.items():
        wish = getattr(job.errors.on_overflow, encoder)
        if wish != "keep" and not any(name in pipeline.counted for name in counters):
            told = f"is {wish}, but what {pipeline.name} reads is not counted for it: write keep."
            yield Problem(told, f"errors.on_overflow.{encoder}")


def check_taken(rows: Rows, pipeline: Pipeline) -> None:
    """Complains about rows with values that the pipeline would ignore, and nulls them."""
    for column in (*pipeline.lacks, "skip_layer_guidance_scale"):
        values = rows.ours[column]
        given = pc.greater(values, 0) if column == "skip_layer_guidance_scale" else values.is_valid()
        if column in TEXTS:
            given = pc.and_(given, pc.not_equal(values, ""))
        away = f"leave it empty, or move the column away with input.columns: {{{column}: other_{column}}}"
        for row in (found := flagged(given)):
            rows.complaints.about(row, column, NOT_TAKEN, f"is nothing that {pipeline.name} takes: {away}")
        if found:
            rows.ours[column] = without(values, np.asarray(given.fill_null(False)))


def check_sides(rows: Rows, sizes: Iterable[Sizes], pipeline: Pipeline) -> None:
    """Complains about sizes, snapped as everywhere, that this pipeline cannot make."""
    for size in sizes:
        wrong = (size.height % pipeline.side != 0) | (size.width % pipeline.side != 0)
        for row in np.flatnonzero(wrong).tolist():
            if not rows.complaints.mentions(row, "height", "width", "aspect_ratio"):
                text = f"and width become {size.height[row]} × {size.width[row]}: {_sides(pipeline)}"
                rows.complaints.about(row, "height", NOT_TAKEN, text)


def _sides(pipeline: Pipeline) -> str:
    return f"{pipeline.name} makes sides that are multiples of {pipeline.side}, write such ones"
