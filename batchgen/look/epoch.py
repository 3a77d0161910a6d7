"""The order of an epoch: which pictures make its batches, and which of the batches each worker of each node has.

A pure function of the sizes of the pictures, so that whoever asks, wherever and whenever, gets the same. Pictures stand
for themselves as numbers in the order of the run. Knows no file by name, no pixels and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
MIXED_FILES = 4  # shuffling mixes the pictures of so many, which a reader holds at once


@dataclass(frozen=True, slots=True)
class Epoch:
    """order: pictures, batch after batch. starts, lengths: where each batch stands in it."""

    order: Ints
    starts: Ints
    lengths: Ints

    @classmethod
    def of(cls, files: Ints, sizes: Ints, batch_size: int, seed: tuple[int, int] | None) -> Epoch:
        """files, sizes: of each picture, as numbers; files begin with 0 and do not return. seed: None for no shuffling.

        All pictures of a batch have one size, and only the last batch of a size is short. With a seed, files come in
        any order, and pictures in any order among those of MIXED_FILES files.
        """
        order = np.arange(len(files)) if seed is None else _shuffled(files, seed)
        ordered = sizes[order]
        picked, ends, lengths = list[Ints](), list[Ints](), list[Ints]()
        for size in np.unique(sizes):
            places = np.flatnonzero(ordered == size)
            begins = np.arange(0, len(places), batch_size)
            picked.append(order[places])
            lengths.append(np.minimum(batch_size, len(places) - begins))
            ends.append(places[begins + lengths[-1] - 1])  # a batch comes when its last picture does
        if not picked:
            empty = np.zeros(0, np.int64)
            return cls(empty, empty, empty)
        counts = np.concatenate(lengths)
        turn = np.argsort(np.concatenate(ends), kind="stable")
        return cls(np.concatenate(picked), (np.cumsum(counts) - counts)[turn], counts[turn])

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, number: int) -> Ints:
        """Its pictures."""
        start = self.starts[number]
        return self.order[start : start + self.lengths[number]]


def _shuffled(files: Ints, seed: tuple[int, int]) -> Ints:
    random = np.random.default_rng(seed)
    edges = np.flatnonzero(np.diff(files, prepend=-1, append=len(files) + 1))
    count = len(edges) - 1
    turn, pieces = random.permutation(count), list[Ints]()
    for start in range(0, count, MIXED_FILES):
        mixed = np.concatenate([np.arange(edges[file], edges[file + 1]) for file in turn[start : start + MIXED_FILES]])
        pieces.append(random.permutation(mixed))
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Share:
    """One reader of an epoch: worker `worker` of `workers` on node `node` of `nodes`."""

    node: int
    nodes: int
    worker: int
    workers: int

    def of(self, batches: int) -> range:
        """Its batches: a piece of the epoch, as long as any other reader's or one shorter."""
        readers, number = self.nodes * self.workers, self.node * self.workers + self.worker
        return range(number * batches // readers, (number + 1) * batches // readers)

    def of_node(self, batches: int) -> range:
        """Those of all workers of its node."""
        return range(self.node * batches // self.nodes, (self.node + 1) * batches // self.nodes)


def last_uses(epoch: Epoch, files: Ints, batches: range) -> dict[int, list[int]]:
    """Of some of its batches → the files that no later one of these needs."""
    part = slice(batches.start, batches.stop)
    starts, lengths = epoch.starts[part], epoch.lengths[part]
    places = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
    needed, numbers = files[epoch.order[places]], np.repeat(np.arange(batches.start, batches.stop), lengths)
    last, at = np.unique(needed[::-1], return_index=True)
    done = dict[int, list[int]]()
    for file, number in zip(last.tolist(), numbers[::-1][at].tolist(), strict=True):
        done.setdefault(number, []).append(file)
    return done
