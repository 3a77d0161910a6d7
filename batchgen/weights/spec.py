"""What is known of the model of a job: found by the planner, recorded in the plan, handed to a renderer. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchgen.job import TEXT_ENCODERS, Model, Refine, Sampling
from batchgen.run.plans import Plan


@dataclass(frozen=True)
class ModelFiles:
    """What the planner knows of a model: path and revision as in ModelSpec; tokenizers: directory that holds them."""

    path: str
    revision: str | None
    digest: str
    tokenizers: Path
    adapters: Mapping[str, AdapterFile] = field(default_factory=dict)
    refiner: ModelFiles | None = None
    files: Mapping[str, str] = field(default_factory=dict)  # sha256 of each single file, by the setting that names it
    unseen: str = ""  # why the weights were not looked at; the digest is then none that a run could have


# What a job may say anew of a run that is begun: where things lie. It changes no image.
PLACES = (*TEXT_ENCODERS, "vae", "config", "offload")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """A LoRA. path: a local file, or its URL. sha256: what the planner saw."""

    path: str
    sha256: str
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What an actor needs to build its renderer: resolved, so that every actor builds the same one.

    path: local directory or file, or a hub id together with `revision` (a commit). digest: what the planner saw.
    model, sampling: sections of the job. adapters: LoRAs by alias. refiner: of the second pass, if it has a checkpoint
    of its own.
    """

    path: str
    revision: str | None
    digest: str
    model: Model
    sampling: Sampling
    refine: Refine | None = None
    adapters: Mapping[str, AdapterFile] = field(default_factory=dict)
    refiner: ModelSpec | None = None

    @classmethod
    def from_plan(cls, found: Mapping[str, Any], job: Mapping[str, Any]) -> ModelSpec:
        """found: what a plan says of its model. job: its job."""
        refine = job.get("refine") and Refine.model_validate(job["refine"])
        refiner = found.get("refiner")
        sampling = Sampling.model_validate(job["sampling"])
        model = Model.model_validate(job["model"] | found.get("places", {}))
        if refiner and refine and refine.model:
            again = refine.model.model_copy(update={"offload": model.offload})
            refiner = cls(**refiner, model=again, sampling=sampling)
        return cls(
            path=found["path"],
            revision=found["revision"],
            digest=found["digest"],
            model=model,
            sampling=sampling,
            refine=refine or None,
            adapters={alias: AdapterFile(**adapter) for alias, adapter in found["adapters"].items()},
            refiner=refiner,
        )


def spec_of(plan: Plan, model: dict[str, Any] | None = None) -> ModelSpec:
    """What a renderer is built from. model: where the weights are now, if not where the planner saw them."""
    return ModelSpec.from_plan(model or plan.model, plan.job)
