"""What a renderer is built from: the model that was found, and what the job says of rendering with it. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchgen.job import TEXT_ENCODERS, Job, Model, Refine, Sampling
from batchgen.run import rules
from batchgen.run.found_model import AdapterFile, FoundModel

if TYPE_CHECKING:
    from batchgen.run.plans import Plan

# Settings that may change after a run has begun, because they only say where files lie and change no image.
PLACES = (*TEXT_ENCODERS, "vae", "config", "offload")

# What a second pass's checkpoint has from the first's section of the job.
OF_THE_FIRST = ("offload", "kernels", "attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What an actor needs to build its renderer: resolved, so that every actor builds the same one.

    path, revision, digest, adapters: as in FoundModel. model, sampling, refine: sections of the job. refiner: of the
    second pass, if it has a checkpoint of its own. rules: of run.rules, those that the run keeps.
    """

    path: str
    revision: str | None
    digest: str
    model: Model
    sampling: Sampling
    refine: Refine | None = None
    adapters: Mapping[str, AdapterFile] = field(default_factory=dict)
    refiner: ModelSpec | None = None
    rules: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, found: FoundModel, job: Job, kept: Mapping[str, int] | None = None) -> ModelSpec:
        """job: the one that the run was planned for. found: where its model lies now.

        kept: the rules of the run, if it is not a new one.
        """
        kept = rules.of(job, found) if kept is None else kept
        model = job.model.model_copy(update=dict(found.places))
        refiner, refine = None, job.refine
        if found.refiner and refine and refine.model:
            refiner = cls(
                path=found.refiner.path,
                revision=found.refiner.revision,
                digest=found.refiner.digest,
                model=refine.model.model_copy(update={name: getattr(model, name) for name in OF_THE_FIRST}),
                sampling=job.sampling,
                rules=kept,
            )
        return cls(
            path=found.path,
            revision=found.revision,
            digest=found.digest,
            model=model,
            sampling=job.sampling,
            refine=refine,
            adapters=found.adapters,
            refiner=refiner,
            rules=kept,
        )


def spec_of(plan: Plan, model: FoundModel | None = None) -> ModelSpec:
    """What a renderer is built from. model: where the weights are now, if not where the planner saw them."""
    return ModelSpec.of(model or plan.model, plan.job, plan.facts.rules)
