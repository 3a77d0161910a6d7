"""Every picture of an epoch is in one batch of one reader, whatever the sizes, the readers and the seed."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchgen.look.epoch import MIXED_FILES, Epoch, Share, last_uses

RUNS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=9)  # sizes of pictures, by file


def arrays(run):
    files = np.array([number for number, sizes in enumerate(run) for _ in sizes], np.int64)
    return files, np.array([size for sizes in run for size in sizes], np.int64)


@given(run=RUNS, batch_size=st.integers(1, 5), seed=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_batches_have_every_picture_once_and_one_size(run, batch_size, seed):
    files, sizes = arrays(run)
    epoch = Epoch.of(files, sizes, batch_size, seed)
    batches = [epoch.batch(number).tolist() for number in range(len(epoch))]
    assert sorted(itertools.chain(*batches)) == list(range(len(files)))
    assert all(len({sizes[row] for row in batch}) == 1 for batch in batches)
    short = [sizes[batch[0]] for batch in batches if len(batch) < batch_size]
    assert len(short) == len(set(short)), "one short batch of a size at most"
    if seed is None:
        assert all(batch == sorted(batch) for batch in batches)
        assert [batch[-1] for batch in batches] == sorted(batch[-1] for batch in batches)


@given(batches=st.integers(0, 40), nodes=st.integers(1, 4), workers=st.integers(1, 4))
def test_readers_divide_the_batches_evenly(batches, nodes, workers):
    shares = [Share(node, nodes, worker, workers).of(batches) for node in range(nodes) for worker in range(workers)]
    assert [number for share in shares for number in share] == list(range(batches))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    of_nodes = [Share(node, nodes, 0, 1).of_node(batches) for node in range(nodes)]
    assert max(map(len, of_nodes)) - min(map(len, of_nodes)) <= 1
    for node, own in enumerate(of_nodes):
        assert [*own] == [number for share in shares[node * workers : (node + 1) * workers] for number in share]


@given(run=RUNS, batch_size=st.integers(1, 5), shuffled=st.booleans(), data=st.data())
def test_a_file_is_let_go_after_its_last_use(run, batch_size, shuffled, data):
    files, sizes = arrays(run)
    epoch = Epoch.of(files, sizes, batch_size, (0, 0) if shuffled else None)
    start = data.draw(st.integers(0, len(epoch)))
    part = range(start, data.draw(st.integers(start, len(epoch))))
    done, gone, used = last_uses(epoch, files, part), set(), set()
    for number in part:
        now = set(files[epoch.batch(number)].tolist())
        assert not now & gone
        used |= now
        gone |= set(done.get(number, ()))
    assert gone == used


def test_shuffling_hangs_on_the_seed_and_on_the_epoch():
    files, sizes = arrays([[0] * 5] * 40)
    orders = {seed: tuple(Epoch.of(files, sizes, 1, seed).order) for seed in ((0, 0), (0, 1), (1, 0))}
    assert len(set(orders.values())) == 3
    assert tuple(Epoch.of(files, sizes, 1, (0, 1)).order) == orders[0, 1]
    mixed = [set(files[list(orders[0, 0][at : at + 5 * MIXED_FILES])]) for at in range(0, 200, 5 * MIXED_FILES)]
    assert [len(group) for group in mixed] == [MIXED_FILES] * 10, "so many files are held at once, and no more"
    assert [*files[list(orders[0, 0][:10])]] != sorted(files[list(orders[0, 0][:10])])
