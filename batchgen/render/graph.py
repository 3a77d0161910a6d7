"""The Ray Data graph of rendering: missing shards → renderers → receipts, until nothing is missing.

Knows numbers of shards and receipts; pictures never pass through here. Ray does the scheduling. Two things are added:
an order in which a run that is stopped early is a fair sample, and a watchdog, because Ray cannot take a call away from
an actor that hangs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import ray.data
from ray.exceptions import RayError

from batchgen.cluster.connection import explain, gpus_per_renderer, restart
from batchgen.cluster.watchdog import Patience, Stalled, watched
from batchgen.errors import BudgetSpent, Infrastructure
from batchgen.job import Job
from batchgen.render.budget import Budget
from batchgen.render.progress import Display
from batchgen.render.receipt import Receipt, from_table
from batchgen.render.worker import Orders, RenderShard
from batchgen.run.attempts import bury, marked, running
from batchgen.run.directory import Run
from batchgen.run.found_model import FoundModel
from batchgen.run.index import ShardRef
from batchgen.run.plans import Plan

ORDER_SEED = 0
TAIL = 0.05  # the last twentieth of the shards starts dearest first, so that no long one is left over
CALLS_AT_ONCE = 2  # one on the device, one compressing and storing
MAX_EXECUTIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a driver renders: a plan of a run, for a job. model: where its weights lie. session: for markers."""

    run: Run
    plan: Plan
    job: Job
    model: FoundModel
    session: str
    budget: Budget


def render_missing(
    run: Run,
    job: Job,
    model: FoundModel,
    display: Display,
    patience: Patience | None = None,
    max_gpu_hours: float | None = None,
) -> None:
    """Render all shards of all plans that are not committed yet. Raises Infrastructure when it cannot be done.

    Raises BudgetSpent when max_gpu_hours are used before; what was under way then is committed.
    """
    session = uuid.uuid4().hex
    with Budget(run.store, session, max_gpu_hours, gpus_per_renderer(job.cluster)) as budget:
        for plan in run.plans:
            work = Work(run=run, plan=plan, job=job, model=model, session=session, budget=budget)
            _render_plan(work, display, patience or Patience())
            if shards := missing(run, plan):
                if budget.spent:
                    raise BudgetSpent(_spent(budget, display))
                raise Infrastructure(f"{len(shards)} shards are still missing. Run the same command again.")


def _render_plan(work: Work, display: Display, patience: Patience) -> None:
    """Execute the graph, again where renderers hung, until nothing is missing or the budget is used."""
    for execution in range(MAX_EXECUTIONS):
        shards = missing(work.run, work.plan, order=int(work.session, 16))
        if not shards or work.budget.spent:
            return
        try:
            _execute(work, shards, display, patience)
        except Stalled as error:
            _end_renderers(work)
            if execution + 1 == MAX_EXECUTIONS:
                raise Infrastructure(
                    f"No renderer answered, {MAX_EXECUTIONS} times: {error}. Run the same command again: rows at "
                    "which renderers hung are tried alone, and fail when that happens again."
                ) from error
            display.note(f"{error}: ended the renderers, starting others")


def _spent(budget: Budget, display: Display) -> str:
    tally = display.tally
    return (
        f"Stopped as asked: {budget.used:.3g} GPU-hours are used of --max-gpu-hours {budget.hours:g}. "
        f"{tally.done} of {tally.total} images are done, a fair sample. Run the same command again to go on for as "
        "long again, or without --max-gpu-hours to the end."
    )


def _end_renderers(work: Work) -> None:
    """End all renderers by ending the session: Ray cannot cancel an actor's call. What they worked on is a death."""
    hung = running(work.run.store, work.session)
    restart(work.job.cluster)
    bury(work.run.store, hung)


def missing(run: Run, plan: Plan, order: int = ORDER_SEED) -> list[ShardRef]:
    """Shards of the plan that have no data file, in the order in which they should start.

    What another session is at, or died at, comes last. order: of this session, so that two that begin together do not
    render the same shards all along.
    """
    committed, suspects = run.committed(), marked(run.store)
    shards = in_order([shard for shard in run.shards(plan) if shard.number not in committed], order)
    return sorted(shards, key=lambda shard: shard.number in suspects)


def in_order(shards: list[ShardRef], order: int = ORDER_SEED) -> list[ShardRef]:
    """Shuffled over buckets and cells, with `order` as the seed; the last TAIL of them dearest first."""
    places = np.random.default_rng(order).permutation(len(shards))
    shuffled = [shards[i] for i in places]
    tail = max(1, round(len(shuffled) * TAIL))
    return shuffled[:-tail] + sorted(shuffled[-tail:], key=lambda shard: -shard.cost_tflop)


def _execute(work: Work, shards: list[ShardRef], display: Display, patience: Patience) -> None:
    """One execution of the graph. Every receipt is counted; one that carries an error ends the job."""

    def signs() -> dict[int, set[str]]:
        return marked(work.run.store)

    try:
        for receipt in watched(receipts_of(work, shards), patience, signs, display.update):
            receipt.raise_if_broken()
            work.budget.count(receipt)
            if work.budget.over():
                return
            if not receipt.was_given_back:
                display.tally.add(receipt.images, receipt.failed, receipt.suspect)
                display.update()
    except RayError as error:
        raise explain(error) from error


def receipts_of(work: Work, shards: list[ShardRef]) -> Iterator[Receipt]:
    """Numbers → one-row blocks → RenderShard → receipts, as they finish."""
    job, renderers = work.job, work.job.cluster.renderers
    orders = Orders(
        url=work.run.store.url,
        plan=work.plan.plan,
        session=work.session,
        model=work.model,
        budgeted=work.budget.limited,
    )
    dataset = (
        ray.data.from_items([{"shard": shard.number} for shard in shards], override_num_blocks=1)
        .repartition(target_num_rows_per_block=1, strict=True)
        .map_batches(
            RenderShard,
            fn_constructor_args=(orders,),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(
                min_size=renderers.min_size,
                max_size=renderers.max_size,
                max_tasks_in_flight_per_actor=CALLS_AT_ONCE,  # what waits in an actor's queue cannot be taken back
                max_concurrent_calls_per_actor=CALLS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            num_gpus=gpus_per_renderer(job.cluster),
            num_cpus=job.cluster.num_cpus,
        )
    )
    # iter_rows() would hold each receipt back until the next one is there.
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from from_table(table)
