"""A ModelSpec for tests, by way of a job, as a plan makes one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batchgen.job import Sampling
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.run import rules
from batchgen.run.found_model import FoundModel
from batchgen.weights.spec import ModelSpec


def spec_of(*, path: str = "fake", revision: str | None = None, digest: str = "d", **settings: Any) -> ModelSpec:
    """settings: keys of sampling or of model, whichever has them; refine. The preset is the fake if none is given."""
    refine = settings.pop("refine", None)
    sampling = {name: settings.pop(name) for name in list(settings) if name in Sampling.model_fields}
    sections = {"model": {"preset": "fake"} | settings, "sampling": sampling, "refine": refine}
    job = job_from({"input": {"path": "unused"}, "output": {"path": "unused"}} | sections)
    return ModelSpec(
        path=path, revision=revision, digest=digest, model=job.model, sampling=job.sampling, refine=job.refine,
        rules={rules.SEEDS: rules.NOW, rules.SIMPLE: rules.NOW},
    )  # fmt: skip


def files_of(digest: str = "digest") -> FoundModel:
    """What a planner would have found of a model."""
    return FoundModel("fake", None, digest, DEMO_CHECKPOINT)


def with_sampling(spec: ModelSpec, **changes: Any) -> ModelSpec:
    return replace(spec, sampling=spec.sampling.model_copy(update=changes))
