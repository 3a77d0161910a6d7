"""Scoring a run: which shards have no scores yet, and the Ray Data graph over them: shard numbers → scorers → receipts.

With one worker and no cluster to join, the same code runs in this process, without Ray. Pictures go from the store to
the scorer, never through Ray. A run that is not finished is scored as far as it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from batchgen.cluster.environment import address
from batchgen.evaluate.desk import Done
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.scores import About, begin, scored_shards
from batchgen.evaluate.wanted import parse
from batchgen.evaluate.worker import Orders, Worker, done_of
from batchgen.job import Cluster
from batchgen.run.directory import Run

BATCH_SIZE = 32  # pictures
SHARDS_PER_CALL = 8  # of an actor: batches go across them, and what is lost with an actor stays small


@dataclass(slots=True)
class Scored:
    """What one scorer did now. before: shards that it had scored. missing: shards that are not rendered yet."""

    about: About
    shards: int = 0
    images: int = 0
    errors: int = 0
    before: int = 0
    missing: int = 0
    why: str | None = None

    @property
    def is_useless(self) -> bool:
        """Whether it had pictures to score, and could score none."""
        return 0 < self.images == self.errors

    def count(self, done: Done) -> None:
        self.shards += 1
        self.images += done.images
        self.errors += done.errors
        self.why = self.why or done.why

    def line(self) -> str:
        """For people."""
        failed = f", {self.errors} of them could not be scored, such as by {self.why}" if self.errors else ""
        before = f"; {self.before} shards were scored before" if self.before else ""
        missing = f"; {self.missing} shards are not rendered yet" if self.missing else ""
        return f"{self.about.scorer}: {self.images} images in {self.shards} shards{failed}{before}{missing}."


def score(
    run: Run,
    wanted: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
    device: str | None = None,
    name: str | None = None,
    cluster: Cluster | None = None,
    notify: Callable[[Done], None] = lambda done: None,
) -> list[Scored]:
    """Score all pictures that have no score of these scorers yet; what each of them did.

    wanted: as after --with. name: under which one scorer's scores are kept. notify: is told of each shard. Raises
    Refused where a scorer is not known, has no model or has scored here otherwise.
    """
    cluster = cluster or Cluster()
    parsed = tuple(parse(wanted, name))
    abouts = tuple(make_scorer(one).about for one in parsed)
    for about in abouts:
        begin(run.store, about)
    committed = run.committed()
    missing = sum(plan.shards for plan in run.plans) - len(committed)
    before = {about.scorer: scored_shards(run.store, about.scorer) & committed for about in abouts}
    todo = {
        number: tuple(name for name, shards in before.items() if number not in shards) for number in sorted(committed)
    }
    todo = {number: names for number, names in todo.items() if names}
    orders = Orders(url=run.store.url, wanted=parsed, abouts=abouts, todo=todo, batch_size=batch_size, device=device)
    tally = {about.scorer: Scored(about, before=len(before[about.scorer]), missing=missing) for about in abouts}
    if todo:
        for done in _on_ray(orders, cluster) if _wants_ray(cluster) else Worker(orders).score(todo):
            tally[done.scorer].count(done)
            notify(done)
    return list(tally.values())


def _wants_ray(cluster: Cluster) -> bool:
    return address(cluster) is not None or (cluster.renderers.max_size or 1) > 1


def _on_ray(orders: Orders, cluster: Cluster) -> Iterator[Done]:
    """Numbers → blocks of a few → Worker → receipts, as they finish."""
    import ray.data  # seconds to import: only where there is more than one worker
    from ray.exceptions import RayError

    from batchgen.cluster.connection import connected, explain, gpus_per_renderer

    with connected(cluster):
        try:
            least, most = cluster.renderers.min_size or 1, cluster.renderers.max_size or 1
            numbers = [{"shard": number} for number in orders.todo]
            together = max(1, min(SHARDS_PER_CALL, len(numbers) // (2 * most)))
            dataset = (
                ray.data.from_items(numbers, override_num_blocks=1)
                .repartition(target_num_rows_per_block=together, strict=True)
                .map_batches(
                    Worker,
                    fn_constructor_args=(orders,),
                    batch_size=together,
                    batch_format="pyarrow",
                    zero_copy_batch=True,
                    compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
                    num_gpus=gpus_per_renderer(cluster),
                    num_cpus=cluster.num_cpus,
                )
            )
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from map(done_of, table.to_pylist())
        except RayError as error:
            raise explain(error) from None
