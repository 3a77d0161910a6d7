"""What the planner's tasks must know to expand a manifest.

Data and one check of the job itself; knows no rows and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from batchgen.buckets import snap
from batchgen.config import Job, OnOverflow, Sampling
from batchgen.errors import Problem, Refused
from batchgen.manifest.rows import limits_text, possible
from batchgen.models.presets import Preset


@dataclass(frozen=True, slots=True)
class Expansion:
    """All that turns prompt rows into image rows. Small, frozen, picklable: it travels to every task."""

    sampling: Sampling
    cells: dict[str, dict[str, Any]]
    columns: dict[str, str]
    extras: tuple[pa.Field, ...]
    preset: Preset
    on_overflow: OnOverflow
    model_digest: str
    dtype: str

    @classmethod
    def of(cls, job: Job, extras: Sequence[pa.Field], model_digest: str) -> Self:
        """Raises Refused where the job's own size, in some cell, is one that the model cannot make."""
        refuse_impossible_sizes(job)
        return cls(
            sampling=job.sampling,
            cells=job.sweep.cells(),
            columns=job.input.columns,
            extras=tuple(extras),
            preset=job.model.defaults,
            on_overflow=job.errors.on_overflow,
            model_digest=model_digest,
            dtype=job.model.dtype,
        )


def refuse_impossible_sizes(job: Job) -> None:
    """Raises Refused where the job's own size, in some cell, is one that the model cannot make."""
    preset, problems = job.model.defaults, []
    for cell, values in job.sweep.cells().items():
        height, width = values.get("height", job.sampling.height), values.get("width", job.sampling.width)
        if not possible(*snap(height, width), preset):
            where = "sampling: height, width" if cell == "default" else f"sweep: cell {cell}"
            problems.append(Problem(f"{height} × {width} cannot be made: {limits_text(preset)}.", where))
    if problems:
        raise Refused(problems)
