"""Ray Data graph 2: missing shards → renderers → receipts, until nothing is missing.

Knows descriptors and receipts; pictures never pass through here. Ray does the scheduling. What is added: an order in
which a run that is stopped early is a fair sample, and a watchdog, because Ray cannot take a call away from an actor
that hangs.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray.data
from ray.exceptions import RayError

from batchgen import cluster
from batchgen.attempts import marked
from batchgen.config import Job
from batchgen.errors import BatchgenError, Infrastructure, OtherPlan
from batchgen.progress import Display
from batchgen.run import Plan, Run
from batchgen.worker import RenderShard

ORDER_SEED = 0
TAIL = 0.05  # the last twentieth of the shards starts dearest first, so that no long one is left over
CALLS_AT_ONCE = 2  # one on the device, one compressing and storing
MAX_EXECUTIONS = 3


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the driver waits for a receipt before it takes a renderer for hung.

    first_s covers waiting for nodes and loading weights. Later: `factor` times the longest wait so far, at least
    least_s.
    """

    first_s: float = 3600.0
    least_s: float = 900.0
    factor: float = 10.0


class Stalled(Exception):
    """No receipt for too long."""


def render_missing(run: Run, job: Job, display: Display, patience: Patience | None = None) -> None:
    """Render all shards of all plans that are not committed yet. Raises Infrastructure when it cannot be done."""
    for plan in run.plans:
        for execution in range(MAX_EXECUTIONS):
            shards = missing(run, plan)
            if not shards:
                break
            try:
                _execute(run, plan, job, shards, display, patience or Patience())
            except Stalled as error:
                if execution + 1 == MAX_EXECUTIONS:
                    raise Infrastructure(f"No renderer answered, {MAX_EXECUTIONS} times: {error}") from error
                display.note(f"{error}: ending the renderers and starting others")
                cluster.restart(job.cluster)
        if shards := missing(run, plan):
            raise Infrastructure(f"{len(shards)} shards are still missing. Run the same command again.")


def missing(run: Run, plan: Plan) -> list[dict[str, Any]]:
    """Rows of the plan's index that have no data file, in the order in which they should start."""
    committed, suspects = run.committed(), marked(run.store)
    shards = in_order([shard for shard in run.index(plan).to_pylist() if shard["shard"] not in committed])
    return sorted(shards, key=lambda shard: shard["shard"] in suspects)


def in_order(shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Shuffled with a fixed seed over buckets and cells; the last TAIL of them dearest first."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(shards))
    shuffled = [shards[i] for i in order]
    tail = max(1, round(len(shuffled) * TAIL))
    return shuffled[:-tail] + sorted(shuffled[-tail:], key=lambda shard: -float(shard["cost_tflop"]))


def _execute(
    run: Run, plan: Plan, job: Job, shards: list[dict[str, Any]], display: Display, patience: Patience
) -> None:
    """One execution of the graph. Every receipt is counted; one that carries an error ends the job."""
    receipts: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()
    source = _graph(run, plan, job, shards)
    thread = threading.Thread(target=_pump, args=(source, receipts), name=cluster.RECEIPTS, daemon=True)
    thread.start()
    waited, longest, limit = 0.0, 0.0, patience.first_s
    while True:
        began = time.monotonic()
        try:
            receipt = receipts.get(timeout=0.5)
        except queue.Empty:
            waited += time.monotonic() - began
            display.update()
            if waited > limit:
                raise Stalled(f"no receipt for {waited:.0f} s") from None
            continue
        if receipt is None:
            return
        if isinstance(receipt, BaseException):
            raise _explain(receipt) from receipt
        longest, waited = max(longest, waited + time.monotonic() - began), 0.0
        limit = max(patience.least_s, patience.factor * longest)
        if receipt["error"] is not None:
            raise (OtherPlan if receipt["exit_code"] == OtherPlan.exit_code else Infrastructure)(receipt["error"])
        display.tally.add(receipt["images"], receipt["failed"], receipt["suspect"] or 0)
        display.update()


def _graph(run: Run, plan: Plan, job: Job, shards: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Descriptors → one-row blocks → RenderShard → receipts, as they finish."""
    items = [{name: shard[name] for name in ("shard", "file", "row_group")} for shard in shards]
    renderers = job.cluster.renderers
    dataset = (
        ray.data.from_items(items, override_num_blocks=1)
        .repartition(target_num_rows_per_block=1, strict=True)
        .map_batches(
            RenderShard,
            fn_constructor_args=(run.store.url, plan.generation, job.output.image_format),
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
            num_gpus=cluster.gpus_per_renderer(job.cluster),
            num_cpus=job.cluster.num_cpus,
        )
    )
    # iter_rows() would hold each receipt back until the next one is there.
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from table.to_pylist()


def _pump(source: Iterator[dict[str, Any]], target: queue.Queue[dict[str, Any] | BaseException | None]) -> None:
    """Move receipts to where the driver can wait for them with a time limit."""
    try:
        for receipt in source:
            target.put(receipt)
        target.put(None)
    except BaseException as error:  # noqa: BLE001  it is raised again in the driver's thread
        target.put(error)


def _explain(error: BaseException) -> BaseException:
    if isinstance(error, BatchgenError | KeyboardInterrupt):
        return error
    if isinstance(error, RayError):
        return Infrastructure(f"Ray ended the renderers: {error}".strip())
    return error
