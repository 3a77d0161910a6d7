"""The contact sheets of a preview and the speed that it measured, for whoever decides whether to pay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console

from batchgen import words
from batchgen.cost import estimate, measured
from batchgen.errors import Refused, TooManyFailures
from batchgen.finalize import proof
from batchgen.finalize.card import dataset_card
from batchgen.finalize.metadata import Totals
from batchgen.job import Job
from batchgen.look import contact_page, contact_sheet
from batchgen.plan import preview
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import Prepared, prepare
from batchgen.plan.retry import plan_retry
from batchgen.render.progress import Display, Tally
from batchgen.run.directory import Run
from batchgen.run.layout import CARD, SUCCESS

MOST_SHOWN = 200  # pictures of a contact sheet: more would be no preview, and too much for a mail


def lines(run: Run, job: Job) -> Iterator[str]:
    """Draw the contact sheets of a finished preview; yields what there is to say."""
    paths = [contact_sheet.write(run, MOST_SHOWN), contact_page.write(run, MOST_SHOWN)]
    shown = f" ({MOST_SHOWN} of {run.planned})" if run.planned > MOST_SHOWN else ""
    yield f"To look at it{shown}: {' and '.join(path for path in paths if path)}"
    if found := measured.measure(run, job.output):
        memory = f", peak memory {words.size(found.peak_memory)}" if found.peak_memory is not None else ""
        yield f"Measured on {found.device}: {estimate.seconds_per_image([*found.seconds.values()])}{memory}."
        yield "batchgen plan now says what all images would cost at that speed."


@dataclass(frozen=True, slots=True)
class Finished:
    """A complete run. rendered: images and failures of this session."""

    run: Run
    totals: Totals
    rendered: int


def render(
    job: Job,
    console: Console,
    *,
    strict: bool = False,
    extend: bool = False,
    retry_failed: bool = False,
    limit: int | None = None,
    max_gpu_hours: float | None = None,
) -> Finished:
    """Bring a job to its end. Raises Refused, RunMismatch, Infrastructure, TooManyFailures, each with its exit code.

    extend: the run may be that of a smaller job. retry_failed: what failed so far is rendered once more.
    limit: render a preview of so many images instead, in a directory of its own. max_gpu_hours: raise BudgetSpent when
    so many are used.
    """
    if limit is not None and (extend or retry_failed):
        raise Refused("--limit shows what a whole job would be: leave out --extend and --retry-failed.")
    prepared = prepare(job, extend=extend) if limit is None else preview.prepare_preview(job, limit)
    for line in [*prepared.sources.notices, *_kept(prepared)]:
        console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)
    with _one_session(prepared):
        run = _planned(prepared, console, limit)
        if retry_failed and prepared.run is not None:
            run = _with_retry(run, console)
        rendered = _render(run, prepared, console, max_gpu_hours)
    totals = None if rendered else proof.finished(run)
    if totals is None:
        totals = proof.finalize(run)
    if limit is not None:
        for line in lines(run, job):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    allowed = 0.0 if strict else job.errors.max_failed_fraction
    if totals.failed > allowed * totals.planned:
        raise TooManyFailures(_too_many(run, totals, allowed))
    return Finished(run, totals, rendered)


def _planned(prepared: Prepared, console: Console, limit: int | None) -> Run:
    """The run with a plan for all of the job."""
    if prepared.run is not None and not prepared.needs_plan:
        return prepared.run
    console.print("planning the extension" if prepared.run else "planning", highlight=False)
    run, summary = make_plan(prepared, limit)
    run.store.create(CARD, dataset_card(run).encode())
    if prepared.run is not None:
        console.print(f"{summary.images} images are new, {prepared.run.planned} were planned before", highlight=False)
    return run


def _with_retry(run: Run, console: Console) -> Run:
    """The run with another generation of what failed, where something did."""
    again = plan_retry(run)
    count = sum(plan.images for plan in again.plans[len(run.plans) :])
    console.print(f"{count} failed images are tried again" if count else "nothing to try again", highlight=False)
    return again


def _kept(prepared: Prepared) -> Iterator[str]:
    """Settings that were decided with the plan and that this job now says otherwise."""
    plans = prepared.run.plans if prepared.run else []
    for planned in [one for one in plans if one.fingerprint == prepared.fingerprint][:1]:
        there, here = planned.job, prepared.job.model_dump(mode="json")
        for section, key in (("errors", "bad_rows"), ("errors", "on_overflow"), ("output", "images_per_shard")):
            if there[section][key] != here[section][key]:
                yield f"{section}.{key} stays {there[section][key]}, as when this run was planned."


def _one_session(prepared: Prepared) -> AbstractContextManager[None]:
    """One Ray for planning and rendering, where planning needs it; starting it twice would cost seconds."""
    if not (prepared.needs_plan and prepared.plans_on_ray):
        return nullcontext()
    from batchgen.cluster.connection import connected

    return connected(prepared.job.cluster)


def _render(run: Run, prepared: Prepared, console: Console, max_gpu_hours: float | None) -> int:
    """Render what is missing; returns how many image rows that were."""
    total, done = sum(plan.images for plan in run.plans), planned_rows(run, run.committed())
    if done == total:
        return 0
    from batchgen.cluster.connection import check_room, connected
    from batchgen.render.graph import render_missing

    job = prepared.job
    run.store.delete(SUCCESS)  # what it says is about to be no longer the whole truth
    tally = Tally(total, done, 0)
    with Display(tally, console) as display, connected(job.cluster):
        if note := check_room(job):
            display.note(note)
        render_missing(run, job, prepared.model_spec(), display, max_gpu_hours=max_gpu_hours)
    return tally.done - done


def planned_rows(run: Run, shards: set[int]) -> int:
    """Image rows of the given shards."""
    indexes = [run.index(plan).select(["shard", "rows"]).to_pydict() for plan in run.plans]
    return sum(rows for index in indexes for shard, rows in zip(*index.values(), strict=True) if shard in shards)


def _too_many(run: Run, totals: Totals, allowed: float) -> str:
    codes = ", ".join(f"{code}: {count}" for code, count in totals.codes.most_common())
    return (
        f"{totals.failed} of {totals.planned} images failed ({codes}); allowed are {allowed:.1%}. The other "
        f"{totals.images} are committed. The reasons stand in {run.store}/metadata, column error_message."
    )
