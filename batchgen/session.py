"""One `batchgen render`: prepare, plan what is not planned yet, render what is missing, finalize.

Running the same job again is resuming it. Imports Ray only when something is missing. Does not know how any of the
three is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console

from batchgen.cost import measured
from batchgen.cost.estimate import seconds_per_image
from batchgen.cost.footprint import weights_of
from batchgen.errors import Infrastructure, Refused, TooManyFailures
from batchgen.finalize.card import dataset_card
from batchgen.finalize.metadata import Totals
from batchgen.finalize.proof import finalize
from batchgen.job import Job
from batchgen.job.several import one_by_one
from batchgen.look import contact_page, contact_sheet
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import Prepared, prepare, prepare_all
from batchgen.plan.preview import prepare_preview
from batchgen.plan.retry import plan_retry
from batchgen.rendering.progress import Display, Tally
from batchgen.run.directory import Run
from batchgen.run.layout import CARD, SUCCESS
from batchgen.run.siblings import name_below
from batchgen.storage.store import Store
from batchgen.words import say, size

MOST_SHOWN = 200  # pictures of a contact sheet: more would be no preview, and too much for a mail


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one `batchgen render` is asked for beside its job.

    strict: no failure is allowed. extend: the run may be that of a smaller job. retry_failed: what failed so far is
    rendered once more. limit: render a preview of so many images instead, in a directory of its own. max_gpu_hours:
    raise BudgetSpent when so many are used.
    """

    strict: bool = False
    extend: bool = False
    retry_failed: bool = False
    limit: int | None = None
    max_gpu_hours: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A complete run. rendered: images and failures of this session."""

    run: Run
    totals: Totals
    rendered: int


def render(job: Job, console: Console, options: Options | None = None) -> Finished:
    """Bring a job to its end.

    Raises Refused, RunMismatch, Infrastructure, TooManyFailures, BudgetSpent, each with its exit code.
    """
    options = options or Options()
    if options.limit is not None and (options.extend or options.retry_failed):
        raise Refused("--limit shows what a whole job would be: leave out --extend and --retry-failed.")
    limit = options.limit
    prepared = prepare(job, extend=options.extend) if limit is None else prepare_preview(job, limit)
    for line in [*prepared.notices, *_kept(prepared)]:
        say(console, f"note: {line}")
    with _one_session(prepared):
        run = _planned(prepared, console, limit)
        if options.retry_failed and prepared.run is not None:
            run = _with_retry(run, console)
        rendered = render_rest(run, prepared, console, options.max_gpu_hours)
    totals = finalize(run)
    run = Run.open(run.store)  # another command may have planned more meanwhile, and the totals count it
    for line in sheet_lines(run, rendered) if limit is None else preview_lines(run, job):
        say(console, line)
    allowed = 0.0 if options.strict else job.errors.max_failed_fraction
    if totals.failed > allowed * totals.planned:
        raise TooManyFailures(_too_many(run, totals, allowed))
    return Finished(run, totals, rendered)


def render_all(jobs: Mapping[str, Job], console: Console, options: Options) -> Iterator[Finished]:
    """Bring all jobs of a file to their end, one after the other; more than one are of several models.

    All are checked before the first is rendered. Where too many images of one fail, the others are rendered all the
    same. Raises as render() does.
    """
    if "" in jobs:
        yield render(jobs[""], console, options)
        return
    if options.max_gpu_hours is not None:
        places = {name: job.output.path for name, job in jobs.items()}
        raise Refused(f"--max-gpu-hours counts for one run. {one_by_one(places)}")
    failures = list[TooManyFailures]()
    prepare_all(jobs, extend=options.extend)
    if options.limit is None:
        _name_all(jobs)
    for name, job in jobs.items():
        say(console, f"model {name}")
        try:
            yield render(job, console, options)
        except TooManyFailures as failure:
            say(console, str(failure))
            failures.append(failure)
    if failures:
        raise failures[0]


def _name_all(jobs: Mapping[str, Job]) -> None:
    """Say above the runs which there are. Raises Refused where a run of one model lies in their place."""
    parent = Store.open(next(iter(jobs.values())).output.path.rpartition("/")[0])
    if Run.find(parent) is not None:
        raise Refused(f"output.path {parent}: holds the run of one model. Name a directory for those of several.")
    name_below(parent, jobs)


def _planned(prepared: Prepared, console: Console, limit: int | None) -> Run:
    """The run with a plan for all of the job."""
    if prepared.run is not None and not prepared.needs_plan:
        return prepared.run
    say(console, "planning the extension" if prepared.run else "planning")
    run, summary = make_plan(prepared, limit)
    run.store.create(CARD, dataset_card(run).encode())
    if prepared.run is not None:
        say(console, f"{summary.images} images are new, {prepared.run.planned} were planned before")
    return run


def _with_retry(run: Run, console: Console) -> Run:
    """The run with another generation of what failed, where something did."""
    again = plan_retry(run)
    count = sum(plan.images for plan in again.plans[len(run.plans) :] if plan.kind == "retry")
    say(console, f"{count} failed images are tried again" if count else "nothing to try again")
    return again


def _kept(prepared: Prepared) -> Iterator[str]:
    """Settings that were decided with the plan and that this job now says otherwise."""
    plans = prepared.run.plans if prepared.run else []
    plan = next((plan for plan in plans if plan.fingerprint == prepared.fingerprint), None)
    if plan is None:
        return
    there, here = plan.stored, prepared.job.model_dump(mode="json")
    for section, key in (("errors", "bad_rows"), ("errors", "on_overflow"), ("output", "images_per_shard")):
        if there[section][key] != here[section][key]:
            yield f"{section}.{key} stays {there[section][key]}, as when this run was planned."


def _one_session(prepared: Prepared) -> AbstractContextManager[None]:
    """One Ray for planning and rendering, where planning needs it; starting it twice would cost seconds."""
    if not (prepared.needs_plan and prepared.plans_on_ray):
        return nullcontext()
    from batchgen.cluster.connection import connected

    return connected(prepared.job.cluster)


def render_rest(run: Run, prepared: Prepared, console: Console, max_gpu_hours: float | None) -> int:
    """Render what is missing; returns how many image rows that were."""
    total, committed = sum(plan.images for plan in run.plans), run.committed()
    done = sum(shard.rows for plan in run.plans for shard in run.shards(plan) if shard.number in committed)
    if done == total:
        return 0
    from batchgen.cluster.connection import check_room, connected, with_renderers
    from batchgen.rendering.graph import render_missing

    job, missing = prepared.job, run.next_shard - len(committed)
    run.store.delete(SUCCESS)  # what it says is about to be no longer the whole truth
    tally = Tally(total, done, 0)
    with Display(tally, console) as display, connected(job.cluster):
        job = with_renderers(job, weights_of(job), missing)
        if note := check_room(job):
            display.note(note)
        if job.model.kernels != "eager" and job.model.preset != "fake":
            display.note("each renderer compiles its kernels first, for minutes; then shards begin to be finished")
        render_missing(run, job, prepared.model, display, max_gpu_hours=max_gpu_hours)
    return tally.done - done


def sheet_lines(run: Run, rendered: int) -> Iterator[str]:
    """Draw the contact sheet of a finished run, where it has none of these pictures; yields where it lies.

    The run is complete without it, so that what keeps it from being drawn is a note.
    """
    if not rendered and run.store.exists(contact_sheet.PATH):
        return
    try:
        path = contact_sheet.write(run)
    except Infrastructure as error:
        yield f"note: no contact sheet was drawn. {error}"
        return
    if path:
        yield f"To look at it: {path}"


def preview_lines(run: Run, job: Job) -> Iterator[str]:
    """Draw the contact sheets of a finished preview; yields what there is to say of it."""
    paths = [contact_sheet.write(run, MOST_SHOWN), contact_page.write(run, MOST_SHOWN)]
    shown = f" ({MOST_SHOWN} of {run.planned})" if run.planned > MOST_SHOWN else ""
    yield f"To look at it{shown}: {' and '.join(path for path in paths if path)}"
    if speed := measured.measure(run, job.output):
        memory = f", peak memory {size(speed.peak_memory)}" if speed.peak_memory is not None else ""
        yield f"Measured on {speed.device}: {seconds_per_image([*speed.seconds.values()])}{memory}."
        yield "batchgen plan now says what all images would cost at that speed."


def _too_many(run: Run, totals: Totals, allowed: float) -> str:
    codes = ", ".join(f"{code}: {count}" for code, count in totals.codes.most_common())
    return (
        f"{totals.failed} of {totals.planned} images failed ({codes}); allowed are {allowed:.1%}. The other "
        f"{totals.images} are committed. The reasons stand in {run.store}/metadata, column error_message."
    )
