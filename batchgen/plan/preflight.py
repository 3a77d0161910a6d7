"""A job, checked against the world: its manifest, its model, its output place. All problems at once, and no GPU yet.

Writes nothing but a probe of the output place, which it removes again. Imports no torch and no Ray.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from batchgen.cluster import environment
from batchgen.errors import Refused, gather
from batchgen.job import LOOP, Job, Refine
from batchgen.manifest import sources
from batchgen.manifest.sources import Sources
from batchgen.rows import identity
from batchgen.rows.expansion import Expansion, deciding
from batchgen.rows.sizes import refuse_impossible_sizes
from batchgen.rows.taken import pipeline_of
from batchgen.run import images
from batchgen.run.directory import Run, refuse_foreign
from batchgen.storage.store import PROBE_SECONDS, Store
from batchgen.weights.locate import locate
from batchgen.weights.lora import locate_adapters
from batchgen.weights.quantization import refuse_unusable
from batchgen.weights.singlefile import absolute
from batchgen.weights.spec import PLACES, ModelFiles
from batchgen.words import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a planner needs. facts: all that makes this run this run, by name; fingerprint: their digest.

    run: what lies in the output place, None where nothing does yet. extends: it is to be extended by this job.
    notes: what could not be looked at. With any, this is good for a survey and not for rendering.
    """

    job: Job
    store: Store
    run: Run | None
    sources: Sources
    model: ModelFiles
    expansion: Expansion
    facts: dict[str, Any]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def extends(self) -> bool:
        return self.run is not None and not self.run.holds(self.fingerprint)

    @property
    def needs_plan(self) -> bool:
        """Whether the job, or what it adds to the run, is still to be planned."""
        return self.run is None or self.extends

    @property
    def plans_on_ray(self) -> bool:
        """One piece is planned in the driver's process, so that a typo answers in a second."""
        return len(self.sources.items) > 1

    def model_spec(self) -> dict[str, Any]:
        """What was found of the model, as the plan records it and ModelSpec.from_plan takes it."""
        refiner = self.model.refiner
        return {
            "path": self.model.path,
            "revision": self.model.revision,
            "digest": self.model.digest,
            "dtype": self.job.model.dtypes,
            "adapters": {alias: asdict(adapter) for alias, adapter in self.model.adapters.items()},
            "places": {name: getattr(self.job.model, name) for name in PLACES},
            "refiner": refiner and {"path": refiner.path, "revision": refiner.revision, "digest": refiner.digest},
            "files": dict(self.model.files),
            "pipeline": self.expansion.pipeline.name if self.expansion.pipeline else None,
        }


def prepare(job: Job, *, extend: bool = False, look_only: bool = False) -> Prepared:
    """Look at everything that a CPU can look at. Raises Refused with all problems, RunMismatch for another's run.

    extend: another job's run will do if this job can be an extension of it. look_only: nothing will be rendered, so
    that a preset's own weights may be out of reach.
    """
    refusals: list[Refused] = []
    job = job.model_copy(update={"model": absolute(job.model), "refine": _absolute(job.refine)})
    store = gather(refusals, lambda: _output(job))
    run = gather(refusals, lambda: _find_run(store)) if store is not None else None
    found = gather(refusals, lambda: sources.find_sources(job.input))
    model = gather(refusals, lambda: _model(job, look_only))
    if found is not None:
        gather(refusals, lambda: sources.refuse_swept_columns(job, found))
    gather(refusals, lambda: refuse_impossible_sizes(job, model))
    pipeline = gather(refusals, lambda: pipeline_of(job, model.tokenizers)) if model is not None else None
    gather(refusals, lambda: refuse_unusable(job.model))
    again = job.refine.model if job.refine else None
    if again is not None:
        gather(refusals, lambda: refuse_unusable(again))
    if refusals or store is None or found is None or model is None:
        raise Refused.together(refusals)
    environment.check_address(job.cluster)
    facts = _facts(job, found, model)
    fingerprint = identity.fingerprint(facts)
    notes = tuple(_unseen(model, run))
    if notes:
        run = None  # its fingerprint has the digest of weights that nobody looked at
    if run is not None:
        run.check(facts, fingerprint, extend=extend)
    return Prepared(
        job=job,
        store=store,
        run=run,
        sources=found,
        model=model,
        expansion=Expansion.of(job, found.extras, model, pipeline),
        facts=facts,
        fingerprint=fingerprint,
        notes=notes,
    )


def _unseen(model: ModelFiles, run: Run | None) -> Iterator[str]:
    """What is to be said where weights were not looked at; else nothing."""
    unseen = {files.path: files.unseen for files in (model, model.refiner) if files and files.unseen}
    for path, why in unseen.items():
        yield f"the weights of {path} were not looked at, and rendering needs them. {why}"
    if unseen and model.adapters:
        yield "without the weights, LoRAs were not compared with the layers that they are for."
    if unseen and run is not None:
        yield f"{run.store} holds a run; without the weights it cannot be told whether it is this job's."


def elsewhere(prepared: Prepared, path: str, facts: Mapping[str, Any]) -> Prepared:
    """The same job with another output place and further facts: a run of its own. Raises as prepare() does."""
    job = prepared.job.model_copy(update={"output": prepared.job.output.model_copy(update={"path": path})})
    refusals: list[Refused] = []
    store = gather(refusals, lambda: _output(job))
    run = gather(refusals, lambda: _find_run(store)) if store is not None else None
    if refusals or store is None:
        raise Refused.together(refusals)
    facts = prepared.facts | dict(facts)
    fingerprint = identity.fingerprint(facts)
    if run is not None:
        run.check(facts, fingerprint)
    return replace(prepared, job=job, store=store, run=run, facts=facts, fingerprint=fingerprint)


def _absolute(refine: Refine | None) -> Refine | None:
    if refine is None or refine.model is None:
        return refine
    return refine.model_copy(update={"model": absolute(refine.model)})


def _model(job: Job, look_only: bool) -> ModelFiles:
    """Everything that is loaded: the checkpoint, its adapters, the checkpoint of a second pass."""
    refusals: list[Refused] = []
    found = gather(refusals, lambda: locate(job.model, look_only=look_only))
    here = Path(found.path) if found and Path(found.path).is_dir() else None
    adapters = gather(refusals, lambda: locate_adapters(job.model, here))
    again = job.refine.model if job.refine else None
    refiner = gather(refusals, lambda: locate(again, look_only=look_only)) if again else None
    if refusals or found is None or adapters is None:
        raise Refused.together(refusals)
    return replace(found, adapters=adapters, refiner=refiner)


def _find_run(store: Store) -> Run | None:
    """The run that lies there, looked for with little patience. Raises Refused where something else lies."""
    quick = Store.open(store.url, PROBE_SECONDS)
    run = Run.find(quick)
    if run is None:
        try:
            refuse_foreign(quick)
        except Refused:
            run = Run.find(quick)  # another driver may have begun in this very moment
            if run is None:
                raise
    return None if run is None else Run(store, run.plans)


def _output(job: Job) -> Store:
    store = Store.open(job.output.path)
    store.refuse_system_folder()
    if store.is_local and environment.in_ray_job() and not job.output.path.startswith(("/", "file:///")):
        raise Refused(
            f"output.path {job.output.path}: is relative, and a Ray job's directory is removed with the job. "
            "Write a path that all nodes share, or S3."
        )
    paths = [job.input.path] if isinstance(job.input.path, str) else job.input.path
    for path in paths:
        _refuse_inside(store, path)
    return store


def _refuse_inside(store: Store, path: str) -> None:
    """A run inside a directory of prompts would be read as prompts when it is resumed."""
    fixed = re.split(r"[*?\[]", path, maxsplit=1)[0]  # what is sure of a glob
    folder = Store.open(path if fixed == path else fixed.rpartition("/")[0] or ".").url
    deep = fixed == path or "**" in path
    if f"{store.url}/".startswith(f"{folder}/") and deep:
        raise Refused(f"output.path {store}: lies inside input.path {redact(path)}. Write the output somewhere else.")
    if f"{folder}/".startswith(f"{store.url}/"):
        raise Refused(f"input.path {redact(path)}: lies inside output.path {store}. Write the output somewhere else.")


def _facts(job: Job, found: Sources, model: ModelFiles) -> dict[str, Any]:
    """Never paths, credentials, errors or the cluster: the same job elsewhere is the same run."""
    facts: dict[str, Any] = {
        "identity": identity.VERSION,
        "input (content of the manifest)": found.digest,
        "input.columns": job.input.columns,
        "input.keep_columns": job.input.keep_columns,
        "model (digest of its files)": model.digest,
        "model.dtype": job.model.dtypes,
        "model.batch_size": job.model.batch_size,
        "refine.model (digest of its files)": model.refiner and model.refiner.digest,
        "model (other settings), refine": {k: v for k, v in deciding(job).items() if k not in LOOP},
        "output.image_format": job.output.image_format,
    }
    quality = job.output.image_quality
    if quality not in (None, images.usual_quality(job.output.image_format)):  # runs from before it could be set go on
        facts["output.image_quality"] = quality
    facts |= {f"model.adapters.{alias}": [one.scale, one.sha256] for alias, one in model.adapters.items()}
    facts |= {f"sampling.{key}": value for key, value in job.sampling.model_dump().items()}
    return facts | {f"sweep.{key}": value for key, value in job.sweep.axes().items()}
