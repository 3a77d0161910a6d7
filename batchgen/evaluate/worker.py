"""Holds the scorers of one process: orders and numbers of shards in, scores in the store, receipts out.

Knows no Ray API: Ray Data calls it with tables, and without Ray it is called in the driver's process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from batchgen.errors import BatchgenError, Infrastructure, Refused, raise_told, told
from batchgen.evaluate.desk import Done
from batchgen.evaluate.scorer import Scorer
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.scores import About
from batchgen.evaluate.scoring import Todo, score_shards
from batchgen.evaluate.wanted import Wanted
from batchgen.storage.store import Store

MOST_THREADS = 8  # that decode and prepare for one worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is told. device: as torch names it; None: the GPU that it sees, or its CPU.

    abouts: of what is wanted, as the driver found it; a worker that finds other weights may not score.
    """

    url: str
    wanted: tuple[Wanted, ...]
    abouts: tuple[About, ...]
    todo: dict[int, tuple[str, ...]]
    batch_size: int
    device: str | None = None


class Worker:
    """What Ray Data makes an actor of."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._scorers: list[Scorer] | None = None  # loaded with the first call: Ray tells nobody why an actor died

    def score(self, todo: Todo) -> Iterator[Done]:
        if self._scorers is None:
            self._scorers = self._load()
        store = Store.open(self._orders.url)
        return score_shards(store, todo, self._scorers, self._orders.batch_size, _threads())

    def _load(self) -> list[Scorer]:
        scorers = [make_scorer(one) for one in self._orders.wanted]
        for scorer, about in zip(scorers, self._orders.abouts, strict=True):
            if scorer.about != about:
                raise Infrastructure(
                    f"{socket.gethostname()}: finds another {about.scorer} than the command that started it. Give all "
                    "nodes the same file or model."
                )
            try:
                scorer.load(self._orders.device)
            except (OSError, RuntimeError, ValueError, ImportError) as error:  # what transformers and torch raise
                raise Refused(f"{about.scorer}: cannot be loaded ({type(error).__name__}: {error}).") from error
        return scorers

    def __call__(self, batch: pa.Table) -> pa.Table:
        """An error of ours goes in the receipt: Ray would try again, and lose its words."""
        receipts = []
        try:
            for done in self.score({number: self._orders.todo[number] for number in batch["shard"].to_pylist()}):
                receipts.append(asdict(done))
        except BatchgenError as error:
            receipts.append(told(error))
        return pa.Table.from_pylist(receipts, schema=RECEIPTS)


RECEIPTS = pa.schema(
    [
        ("scorer", pa.string()),
        ("shard", pa.int64()),
        ("images", pa.int64()),
        ("errors", pa.int64()),
        ("why", pa.string()),
        ("broken", pa.string()),  # why the work ends here
        ("kind", pa.string()),
    ]
)


def done_of(receipt: dict[str, Any]) -> Done:
    """Raises, in this process, what ended a worker."""
    raise_told(receipt)
    return Done(**receipt)


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_THREADS)
