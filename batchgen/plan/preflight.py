"""A job, checked against the world: its manifest, its model, its output place. All problems at once, and no GPU yet.

Writes nothing but a probe of the output place, which it removes again. Imports no torch and no Ray.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from batchgen.cluster import environment
from batchgen.errors import Refusals, Refused
from batchgen.job import LATER, LOOP, Job, Refine
from batchgen.job.kernels import gpu_notices
from batchgen.manifest import sources
from batchgen.manifest.formats import SOURCE_ROWS
from batchgen.manifest.sources import Sources
from batchgen.rows import identity, idle
from batchgen.rows.expansion import Expansion, deciding
from batchgen.rows.idle import refuse_idle
from batchgen.rows.sizes import refuse_impossible_sizes
from batchgen.rows.taken import pipeline_of
from batchgen.rows.worded import refuse_unknown_columns
from batchgen.run import images, rules
from batchgen.run.directory import Run, refuse_foreign
from batchgen.run.facts import Facts
from batchgen.run.found_model import FoundModel
from batchgen.storage.store import PROBE_SECONDS, Store
from batchgen.weights.licence import find_licence
from batchgen.weights.locate import locate
from batchgen.weights.lora import locate_adapters
from batchgen.weights.quantization import notices, refuse_unusable
from batchgen.weights.singlefile import absolute
from batchgen.weights.spec import PLACES
from batchgen.words import redact


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a planner needs. facts: all that makes this run this run, by name; fingerprint: their digest.

    run: what lies in the output place, None where nothing does yet. extends: it is to be extended by this job.
    extend: it may be. notes: what could not be looked at. With any, this is good for a survey and not for rendering.
    notices: what the user should know of the table and the job.
    """

    job: Job
    store: Store
    run: Run | None
    sources: Sources
    model: FoundModel
    expansion: Expansion
    facts: Facts
    fingerprint: str
    extend: bool = False
    notes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def extends(self) -> bool:
        return self.run is not None and not self.run.holds(self.fingerprint)

    @property
    def needs_plan(self) -> bool:
        """Whether the job, or what it adds to the run, is still to be planned."""
        return self.run is None or self.extends

    @property
    def plans_on_ray(self) -> bool:
        """What one piece could hold is planned in the driver's process, so that a typo answers in a second."""
        return len(self.sources.items) > 1 and self.sources.rows > SOURCE_ROWS


def prepare(job: Job, *, extend: bool = False, look_only: bool = False) -> Prepared:
    """Look at everything that a CPU can look at. Raises Refused with all problems, RunMismatch for another's run.

    extend: another job's run will do if this job can be an extension of it. look_only: nothing will be rendered, so
    that a preset's own weights may be out of reach.
    """
    refusals = Refusals()
    job = job.model_copy(update={"model": absolute(job.model), "refine": _absolute(job.refine)})
    model: FoundModel | None = None
    run: Run | None = None
    table: Sources | None = None
    pipeline = None
    with refusals.gather():
        store = _output(job)
        run = find_run(store)
        if look_only and run is None:
            try_out(store)
    with refusals.gather():
        table = sources.find_sources(job.input)
        sources.refuse_swept_columns(job, table)
        refuse_unknown_columns(job, table)
    with refusals.gather():
        model = _model(job, look_only)
        pipeline = pipeline_of(job, model.tokenizers)
    with refusals.gather():
        refuse_impossible_sizes(job, model)
    with refusals.gather():
        refuse_unusable(job.model)
    if job.refine and job.refine.model:
        with refusals.gather():
            refuse_unusable(job.refine.model)
    if run is None or rules.IDLE in run.plans[0].facts.rules:
        with refusals.gather():
            refuse_idle(job, model.tokenizers if model else Path(), table.columns if table else ())
    refusals.raise_any()
    assert model is not None  # else they were refused
    assert table is not None
    model = replace(model, pipeline=pipeline.name if pipeline else None)
    environment.check_address(job.cluster)
    facts = _facts(job, table, model, run)
    fingerprint = identity.fingerprint(facts.to_dict())
    notes = tuple(_unseen(model, run))
    if notes:
        run = None  # its fingerprint has the digest of weights that nobody looked at
    if run is not None:
        run.check(facts, fingerprint, extend=extend)
    return Prepared(
        job=job,
        store=store,
        run=run,
        sources=table,
        model=model,
        expansion=Expansion.of(job, table.extras, model, pipeline, facts.rules, run.plan_schema() if run else None),
        facts=facts,
        fingerprint=fingerprint,
        extend=extend,
        notes=notes,
        notices=(*table.notices, *idle.notices(job, table.columns), *_left_out(model, facts), *_of_quantization(job)),
    )


def prepare_all(jobs: Mapping[str, Job], *, extend: bool = False, look_only: bool = False) -> dict[str, Prepared]:
    """prepare() of each; the mistakes of all together."""
    refusals, found = Refusals(), dict[str, Prepared]()
    for name, job in jobs.items():
        with refusals.gather():
            found[name] = prepare(job, extend=extend, look_only=look_only)
    refusals.raise_any()
    return found


def _unseen(model: FoundModel, run: Run | None) -> Iterator[str]:
    """What is to be said where weights were not looked at; else nothing."""
    unseen = {files.path: files.unseen for files in (model, model.refiner) if files and files.unseen}
    for path, why in unseen.items():
        yield f"the weights of {path} were not looked at, and rendering needs them. {why}"
    if unseen and run is not None:
        yield f"{run.store} holds a run; without the weights it cannot be told whether it is this job's."


def _left_out(model: FoundModel, facts: Facts) -> Iterator[str]:
    if rules.PROJECTION in facts.rules:
        tensors = [name for files in (model, model.refiner) if files for name in files.left_out]
        yield f"{' and '.join(tensors)} is not read: Stability's code and ComfyUI do without it too."


def elsewhere(prepared: Prepared, path: str, limit: int) -> Prepared:
    """A preview of the same job: a run of its own in another output place. Raises as prepare() does."""
    job = prepared.job.model_copy(update={"output": prepared.job.output.model_copy(update={"path": path})})
    refusals = Refusals()
    with refusals.gather():
        store = _output(job)
        run = find_run(store)
    refusals.raise_any()
    facts = replace(prepared.facts, limit=limit)
    fingerprint = identity.fingerprint(facts.to_dict())
    if run is not None:
        run.check(facts, fingerprint)
    return replace(prepared, job=job, store=store, run=run, facts=facts, fingerprint=fingerprint)


def try_out(store: Store) -> None:
    """Raises Refused where a disk cannot hold the output. In an object store, what was tried would stay in its logs."""
    if store.is_local:
        store.probe()
        store.remove_made_folders()


def _of_quantization(job: Job) -> Iterator[str]:
    """What is to be said of either model, once."""
    yield from dict.fromkeys(text for model in job.models for text in notices(model))
    yield from gpu_notices(job.model, job.cluster.num_gpus)


def _absolute(refine: Refine | None) -> Refine | None:
    if refine is None or refine.model is None:
        return refine
    return refine.model_copy(update={"model": absolute(refine.model)})


def _model(job: Job, look_only: bool) -> FoundModel:
    """Everything that is loaded: the checkpoint, its adapters, the checkpoint of a second pass."""
    refusals = Refusals()
    found, refiner = None, None
    with refusals.gather():
        found = locate(job.model, look_only=look_only)
    with refusals.gather():
        adapters = locate_adapters(job.model, found)
    if job.refine and job.refine.model:
        with refusals.gather():
            refiner = locate(job.refine.model, look_only=look_only)
    refusals.raise_any()
    assert found is not None  # else it was refused
    places = {name: getattr(job.model, name) for name in PLACES}
    found = replace(found, licence=find_licence(job.model, found).to_dict())
    if refiner is not None and job.refine and job.refine.model:
        refiner = replace(refiner, licence=find_licence(job.refine.model, refiner).to_dict())
    return replace(found, dtype=job.model.dtypes, adapters=adapters, refiner=refiner, places=places)


def find_run(store: Store) -> Run | None:
    """The run that lies there, looked for with little patience. Raises Refused where something else lies,
    or images that were made elsewhere."""
    quick = Store.open(store.url, PROBE_SECONDS)
    run = Run.find(quick)
    if run is None:
        try:
            refuse_foreign(quick)
        except Refused:
            run = Run.find(quick)  # another driver may have begun in this very moment
            if run is None:
                raise
    if run is None:
        return None
    run.refuse_adopted("rendered, extended or tried again")
    return Run(store, run.plans)


def _output(job: Job) -> Store:
    store = Store.open(job.output.path)
    store.refuse_unfit()
    if (
        store.is_local
        and environment.in_ray_job()
        and not job.output.path.startswith(("/", "file:///", "file://localhost/"))
    ):
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


def _facts(job: Job, table: Sources, model: FoundModel, run: Run | None) -> Facts:
    quality, sampling = job.output.image_quality, job.sampling.model_dump()
    return Facts(
        identity=identity.VERSION,
        manifest=table.digest,
        columns=job.input.columns,
        keep_columns=job.input.keep_columns,
        model=model.digest,
        dtype=job.model.dtypes,
        batch_size=job.model.batch_size,
        refiner=model.refiner.digest if model.refiner else None,
        deciding={name: value for name, value in deciding(job).items() if name not in LOOP},
        image_format=job.output.image_format,
        image_quality=None if quality == images.usual_quality(job.output.image_format) else quality,
        adapters={alias: [one.scale, one.sha256] for alias, one in model.adapters.items()},
        loop={name: value for name in LOOP if (value := sampling.pop(name)) != LATER.get(name, ...)},
        sampling=sampling,
        sweep=job.sweep.axes(),
        rules=rules.of(job, model) if run is None else rules.kept(run.plans[0].facts.rules),
    )
