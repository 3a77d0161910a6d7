"""Writing the parts of an export: two at a time in this process, or the Ray Data graph over them: parts → tallies.

With one actor and no cluster to join there is no Ray. Pictures go from the run to the export, never through Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from batchgen.cluster.environment import address
from batchgen.export.layout import Tally
from batchgen.export.part import Part
from batchgen.export.worker import Orders, Worker, tally_of
from batchgen.job import Cluster
from batchgen.run.reading import in_order

PARTS_AT_ONCE = 2  # in one process: one is made while the disk, or the store, has the other


def write_parts(orders: Orders, parts: Sequence[Part], cluster: Cluster) -> Iterator[Tally]:
    """What was written of each, as it is finished. Raises what a part could not be written for."""
    if address(cluster) is not None or (cluster.renderers.max_size or 1) > 1:
        return _on_ray(orders, parts, cluster)
    return in_order(parts, orders.write, readers=PARTS_AT_ONCE, window=PARTS_AT_ONCE)


def _on_ray(orders: Orders, parts: Sequence[Part], cluster: Cluster) -> Iterator[Tally]:
    import ray.data  # seconds to import: only where there is more than one actor
    from ray.exceptions import RayError

    from batchgen.cluster.connection import connected, explain

    with connected(cluster):
        try:
            least, most = cluster.renderers.min_size or 1, cluster.renderers.max_size or 1
            dataset = (
                ray.data.from_items([asdict(part) for part in parts], override_num_blocks=1)
                .repartition(target_num_rows_per_block=1, strict=True)
                .map_batches(
                    Worker,
                    fn_constructor_args=(orders,),
                    batch_size=1,
                    batch_format="pyarrow",
                    zero_copy_batch=True,
                    compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
                    num_cpus=cluster.num_cpus,
                )
            )
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from map(tally_of, table.to_pylist())
        except RayError as error:
            raise explain(error) from None
