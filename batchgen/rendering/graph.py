"""The Ray Data graph of rendering: missing shards → renderers → receipts, until nothing is missing.

Knows numbers of shards and receipts; pictures never pass through here. Ray does the scheduling. Three things are added:
an order in which a run that is stopped early is a fair sample, a watchdog, because Ray cannot take a call away from an
actor that hangs, and further executions, with fresh processes, for the shards of which a second opinion is asked.
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
from batchgen.rendering.budget import Budget
from batchgen.rendering.crew import Crew
from batchgen.rendering.progress import Display
from batchgen.rendering.receipt import Receipt, from_table
from batchgen.rendering.stop import Stop
from batchgen.rendering.worker import Orders, RenderShard
from batchgen.run import ledger
from batchgen.run.attempts import bury, marked, running
from batchgen.run.directory import Run
from batchgen.run.found_model import FoundModel
from batchgen.run.index import ShardRef
from batchgen.run.plans import Plan
from batchgen.run.set_aside import blame, had_their_say, nobody_aside_at_the_end, those_set_aside

ORDER_SEED = 0
TAIL = 0.05  # the last twentieth of the shards starts dearest first, so that no long one is left over
CALLS_AT_ONCE = 2  # one on the device, one compressing and storing
MAX_STALLS = 3
QUIET_ROUNDS = 4  # executions in a row in which no shard was finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a driver renders: a plan of a run, for a job. model: where its weights lie. session: for markers.

    ledger: where it writes what renderers say of the shards that they stored.
    """

    run: Run
    plan: Plan
    job: Job
    model: FoundModel
    session: str
    stop: Stop
    budget: Budget
    crew: Crew
    ledger: ledger.Writer


def render_missing(
    run: Run,
    job: Job,
    model: FoundModel,
    display: Display,
    patience: Patience | None = None,
    max_gpu_hours: float | None = None,
) -> None:
    """Render all shards of all plans that are not committed yet. Raises Infrastructure when it cannot be done.

    Raises BudgetSpent when max_gpu_hours are used before, TooManyFailures when going on is not worth it; what was under
    way then is committed.
    """
    session = uuid.uuid4().hex
    crew = Crew(job, display.tally.total)
    with (
        Stop(run.store, session) as stop,
        nobody_aside_at_the_end(run.store, session),
        ledger.Writer(run.store) as writer,
    ):
        budget = Budget(run.store, session, stop, max_gpu_hours, gpus_per_renderer(job.cluster))
        for plan in run.plans:
            work = Work(
                run=run, plan=plan, job=job, model=model, session=session, stop=stop, budget=budget, crew=crew,
                ledger=writer,
            )  # fmt: skip
            _render_plan(work, display, patience or Patience())
            if shards := missing(run, plan):
                if budget.spent:
                    raise BudgetSpent(_spent(budget, display))
                raise Infrastructure(f"{len(shards)} shards are still missing. Run the same command again.")


def _render_plan(work: Work, display: Display, patience: Patience) -> None:
    """Execute the graph until nothing is missing: again for second opinions, and where renderers hung."""
    stalls = quiet = 0
    order = int(work.session, 16)
    while quiet < QUIET_ROUNDS and (shards := missing(work.run, work.plan, order)) and not work.budget.spent:
        ledger.forget(work.run.store, {shard.number for shard in shards})
        try:
            _execute(work, shards, display, patience, _orders(work, shards, asked_in_vain=quiet > 0))
        except Stalled as error:
            _end_renderers(work)
            stalls += 1
            if stalls == MAX_STALLS:
                raise Infrastructure(
                    f"No renderer answered, {MAX_STALLS} times: {error}. Run the same command again: rows at "
                    "which renderers hung are tried alone, and fail when that happens again."
                ) from error
            display.note(f"{error}: ended the renderers, starting others")
        if too_many := work.crew.too_many_failures():
            raise too_many
        blame(work.run.store, work.session, work.run.committed())
        for news in work.crew.know_aside(those_set_aside(work.run.store, work.session)):
            display.note(news)
        quiet = 0 if len(missing(work.run, work.plan)) < len(shards) else quiet + 1


def _orders(work: Work, shards: list[ShardRef], asked_in_vain: bool) -> Orders:
    store = work.run.store
    heard = had_their_say(store, work.session, {shard.number for shard in shards})
    return Orders(
        url=store.url,
        plan=work.plan.plan,
        session=work.session,
        model=work.model,
        only_device=work.crew.is_one_device(asked_in_vain),
        aside=work.crew.aside(heard),
    )


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
    bury(work.run.store, hung, "hung")


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


def _execute(work: Work, shards: list[ShardRef], display: Display, patience: Patience, orders: Orders) -> None:
    """One execution of the graph. Every receipt is counted; one that carries an error ends the job."""

    def signs() -> dict[int, set[str]]:
        return marked(work.run.store)

    try:
        for receipt in watched(receipts_of(work.job, shards, orders), patience, signs, display.update):
            receipt.raise_if_broken()
            if receipt.entry is not None:
                work.ledger.add(receipt.shard, ledger.unpack(receipt.entry))
            work.budget.count(receipt)
            if work.budget.over():
                return
            is_new = receipt.is_done and receipt.shard not in work.crew.finished
            if note := work.crew.count(receipt):
                display.note(note)
            if is_new:
                display.tally.add(receipt.images, receipt.failed, receipt.suspect)
                display.update()
            if work.crew.too_many_failures():
                work.stop.put_up()
    except RayError as error:
        raise explain(error) from error


def receipts_of(job: Job, shards: list[ShardRef], orders: Orders) -> Iterator[Receipt]:
    """Numbers → one-row blocks → RenderShard → receipts, as they finish."""
    renderers = job.cluster.renderers
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
                min_size=renderers.min_size or 1,
                max_size=renderers.max_size or 1,
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
