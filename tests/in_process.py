"""What `batchgen render` does with a plan, in this process instead of Ray's actors."""

from __future__ import annotations

from concurrent.futures import Executor, Future

import pyarrow as pa

from batchgen.finalize.proof import finalize
from batchgen.rendering.receipt import Receipt, from_table
from batchgen.rendering.worker import Orders, RenderShard
from batchgen.run import ledger
from batchgen.run.attempts import MarkerWriter
from batchgen.run.directory import Run
from batchgen.run.found_model import FoundModel
from batchgen.run.layout import SUCCESS
from batchgen.storage.store import Store


class InThisThread(Executor):
    """Whatever is submitted is done when submit returns."""

    def submit(self, work, /, *arguments, **named):
        done = Future()
        done.set_result(work(*arguments, **named))
        return done


def at_once(store: Store) -> MarkerWriter:
    """A writer whose markers are written when they are asked for."""
    return MarkerWriter(store, InThisThread())


def calls(actor: RenderShard, number: int) -> list[Receipt]:
    """Give an actor one shard, as Ray Data does: its receipt comes last, after those of others it looked at."""
    return from_table(actor(pa.table({"shard": [number]})))


def call(actor: RenderShard, number: int) -> Receipt:
    return calls(actor, number)[-1]


def render_here(run: Run, model: FoundModel | None = None) -> Run:
    """Render all that is missing, then finalize. model: where the weights lie now, if not where they were planned.

    What fails is looked at by a second renderer, as if Ray had started another process.
    """
    for plan in run.plans:
        for _ in range(2):
            committed = run.committed()
            missing = [shard.number for shard in run.shards(plan) if shard.number not in committed]
            if not missing:
                break
            run.store.delete(SUCCESS)  # as session.render does
            actor = RenderShard(
                Orders(url=run.store.url, plan=plan.plan, session="driver", model=model, only_device=True)
            )
            ledger.forget(run.store, missing)
            with ledger.Writer(run.store) as writer:
                for number in missing:
                    receipt = call(actor, number)
                    assert receipt.error is None, receipt
                    if receipt.entry is not None:
                        writer.add(number, ledger.unpack(receipt.entry))
    assert len(run.committed()) == sum(len(run.shards(plan)) for plan in run.plans)
    finalize(run)
    return run
