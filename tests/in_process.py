"""What `batchgen render` does with a plan, in this process instead of Ray's actors."""

from __future__ import annotations

import pyarrow as pa

from batchgen.finalize.proof import finalize
from batchgen.render.receipt import Receipt, from_table
from batchgen.render.worker import Orders, RenderShard
from batchgen.run.directory import Run
from batchgen.run.found_model import FoundModel


def call(actor: RenderShard, number: int) -> Receipt:
    """Give an actor one shard, as Ray Data does."""
    (receipt,) = from_table(actor(pa.table({"shard": [number]})))
    return receipt


def render_here(run: Run, model: FoundModel | None = None) -> Run:
    """Render all that is missing, then finalize. model: where the weights lie now, if not where they were planned."""
    committed = run.committed()
    for plan in run.plans:
        missing = [shard.number for shard in run.shards(plan) if shard.number not in committed]
        if not missing:
            continue
        actor = RenderShard(Orders(url=run.store.url, plan=plan.plan, session="driver", model=model))
        for number in missing:
            receipt = call(actor, number)
            assert receipt.error is None, receipt
    finalize(run)
    return run
