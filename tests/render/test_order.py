"""The order of work: a run that is stopped early is a fair sample, and no long shard is left for the end."""

from batchgen.rendering.graph import TAIL, in_order
from batchgen.run.index import ShardRef


def shards(count):
    return [
        ShardRef(
            number=i, file="f", row_group=i, rows=1, batch_size=1, height=32, width=32, label=str(i // (count // 4)),
            cost_tflop=float(i),
        )
        for i in range(count)
    ]  # fmt: skip


def test_the_first_tenth_holds_every_bucket():
    begun = in_order(shards(200))[:20]
    assert {shard.label for shard in begun} == {"0", "1", "2", "3"}


def test_the_tail_starts_with_its_dearest():
    tail = in_order(shards(200))[-round(200 * TAIL) :]
    costs = [shard.cost_tflop for shard in tail]
    assert costs == sorted(costs, reverse=True)


def test_sessions_that_begin_together_take_shards_in_other_orders():
    """Two that went the same way rendered most shards twice, each a little later than the other."""
    orders = [[shard.number for shard in in_order(shards(60), order)] for order in (1, 2)]
    assert sum(one == other for one, other in zip(*orders, strict=True)) < 10
    assert sorted(orders[0]) == sorted(orders[1])


def test_the_order_is_fixed_and_loses_nothing():
    assert in_order(shards(40)) == in_order(shards(40))
    assert sorted(shard.number for shard in in_order(shards(40))) == list(range(40))
    assert in_order([]) == []
