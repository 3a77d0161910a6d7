"""A run as a dataset of torch: streams data/, divides it between nodes and workers, and knows where it was stopped.

An example is a picture with its row; what batches are made of and who has them says `epoch`. Where an epoch stands is
what the trainer was given, and not what workers have read ahead: so each example carries its place, and `mark` is told
of it in the trainer's process. Numbers that both sides of a DataLoader must know lie in memory that they share.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset, default_collate, get_worker_info

from batchgen.errors import Refused
from batchgen.look.epoch import Epoch, Share, last_uses
from batchgen.look.training_rows import TrainingRows
from batchgen.run import images

POSITION = "_position"  # of an example: the number of its batch in the epoch, and above it which pass over the epoch
NUMBER_BITS = 40
MOST_WORKERS = 1024
EPOCH, WORKERS, RESUMED, STARTS = 0, 1, 2, 3  # places in the shared memory; from STARTS on one for each worker

Transform = Callable[[torch.Tensor], Any]


class TrainingData(IterableDataset[dict[str, Any]]):
    """What `Results.torch()` returns. Iterates over this worker's examples, or batches, of one epoch."""

    def __init__(
        self, rows: TrainingRows, transform: Transform | None, batch_size: int | None, shuffle: bool, seed: int
    ) -> None:
        super().__init__()
        self.rows = rows
        self.transform = transform
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self._pictures = rows.digest
        self._node: tuple[int, int] | None = None  # as the process knew it that sent this copy to a worker
        self._taken = dict[int, int]()  # worker → how many the trainer was given of its batches
        self._pass: int | None = None  # over the epoch: a loader that is iterated over again begins from the first
        self._passes = 0
        self._own_start: int | None = None  # of a worker that was told itself where to go on
        self._shared = torch.zeros(STARTS + MOST_WORKERS, dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._made: tuple[int, Epoch] | None = None

    def __len__(self) -> int:
        """Examples, or batches, of this node in an epoch; another node may have one less or more."""
        rank, world = self.node
        return len(Share(rank, world, 0, 1).of_node(len(self._epoch)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        share = Share(*self.node, info.id, info.num_workers) if info else Share(*self.node, 0, 1)
        start = self._started(share)
        self._passes += 1
        self._pass = 0 if info is None else _pass_of(info.seed - info.id, self._passes)
        self._taken = {share.worker: start}
        return self._given(share, start, self._pass)

    def _given(self, share: Share, start: int, this_pass: int) -> Iterator[dict[str, Any]]:
        epoch, mine = self._epoch, share.of(len(self._epoch))
        left = range(mine.start + start, mine.stop)
        held, done = dict[int, list[dict[str, Any]]](), last_uses(epoch, self.rows.file_of, left)
        for number in left:
            position = this_pass << NUMBER_BITS | number
            examples = [self._example(held, row, position) for row in epoch.batch(number).tolist()]
            self._taken[share.worker] = number + 1 - mine.start
            yield examples[0] if self.batch_size is None else default_collate(examples)
            for file in done.get(number, ()):
                del held[file]

    @property
    def node(self) -> tuple[int, int]:
        """(rank, world size): of torch.distributed, or what torchrun says in the environment."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        if self._node is not None:
            return self._node
        return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, from its first example: with shuffle=True each has an order of its own."""
        self._taken, self._pass = {}, None
        self._shared.zero_()
        self._shared[EPOCH] = epoch

    def mark(self, batch: Mapping[str, Any]) -> None:
        """Say that the trainer has had a batch of the loader: state_dict() counts it, and all before it of its worker.

        Not needed without workers, and with torchdata's StatefulDataLoader.
        """
        if POSITION not in batch:
            raise Refused(f"mark() was given no {POSITION!r}: give it the batch as the loader gave it.")
        workers = max(1, int(self._shared[WORKERS]))
        for position in torch.as_tensor(batch[POSITION]).flatten().tolist():
            this_pass, number = position >> NUMBER_BITS, position & (1 << NUMBER_BITS) - 1
            if self._pass not in (None, this_pass):
                self._taken = {}
            self._pass = this_pass
            worker, taken = self._whose(number, workers)
            self._taken[worker] = max(taken, self._taken.get(worker, 0))

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands on this node. In a worker, where that worker does: StatefulDataLoader asks there."""
        info, (rank, world) = get_worker_info(), self.node
        workers = info.num_workers if info else int(self._shared[WORKERS]) or int(self._shared[RESUMED])
        if info is None and workers and not self._taken and not int(self._shared[RESUMED]):
            raise Refused(
                "nobody knows which batches the trainer has had: call mark(batch) for each batch of the loader."
            )
        return self._which() | {
            "epoch": int(self._shared[EPOCH]),
            "rank": rank,
            "world_size": world,
            "workers": workers,
            "taken": [self._taken.get(worker, 0) for worker in range(workers)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where state_dict() was asked: the next epoch that is iterated over lacks what was taken before.

        Raises Refused where the state is of other pictures or another division of them.
        """
        rank, world = self.node
        now = self._which() | {"rank": rank, "world_size": world}
        other = [f"{name}: there {state.get(name)}, now {one}" for name, one in now.items() if state.get(name) != one]
        if other:
            raise Refused(
                f"the state is of another dataset ({'; '.join(other)}). Open the same run with the same arguments, on "
                "as many nodes, and give each node its own state."
            )
        if (info := get_worker_info()) is not None:
            self._refuse_other(int(state["workers"]), info.num_workers)
            self._shared[EPOCH] = int(state["epoch"])
            self._own_start = int(state["taken"][info.id])
            self._taken = {info.id: self._own_start}
            return
        self.set_epoch(int(state["epoch"]))
        self._shared[RESUMED] = int(state["workers"])
        self._taken = {worker: int(taken) for worker, taken in enumerate(state["taken"]) if taken}
        for worker, taken in self._taken.items():
            self._shared[STARTS + worker] = taken

    def __getstate__(self) -> dict[str, Any]:
        """A worker that is not forked knows nothing of torch.distributed."""
        return self.__dict__ | {"_node": self.node, "_made": None}

    def _which(self) -> dict[str, Any]:
        return {
            "pictures": self._pictures,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
        }

    @property
    def _epoch(self) -> Epoch:
        number = int(self._shared[EPOCH])
        if self._made is None or self._made[0] != number:
            seed = (self.seed, number) if self.shuffle else None
            self._made = number, Epoch.of(self.rows.file_of, self.rows.sizes, self.batch_size or 1, seed)
        return self._made[1]

    def _started(self, share: Share) -> int:
        """How many of its batches this worker leaves out, this time: the trainer has had them before."""
        if share.workers > MOST_WORKERS:
            raise Refused(f"{share.workers} workers are more than {MOST_WORKERS}.")
        starts = self._shared[STARTS:]
        if bool(starts.any()):
            self._refuse_other(int(self._shared[RESUMED]), share.workers)
        self._shared[WORKERS] = share.workers
        start = int(starts[share.worker]) if self._own_start is None else self._own_start
        starts[share.worker], self._own_start = 0, None
        return start

    @staticmethod
    def _refuse_other(there: int, now: int) -> None:
        if there not in (0, now):
            raise Refused(f"the state is of {there} workers, and the loader has {now}: give it as many.")

    def _whose(self, position: int, workers: int) -> tuple[int, int]:
        """The worker that gave this batch of the epoch, and how many of its own it has given with it."""
        for worker in range(workers):
            place = Share(*self.node, worker, workers).of(len(self._epoch))
            if position in place:
                return worker, position - place.start + 1
        raise Refused(f"mark() was given batch {position} of the epoch, which this node does not have.")

    def _example(self, held: dict[int, list[dict[str, Any]]], row: int, position: int) -> dict[str, Any]:
        file = int(self.rows.file_of[row])
        if file not in held:
            held[file] = self.rows.read(file)
        at = row - self.rows.files[file].first
        values, held[file][at] = held[file][at], {}  # each is wanted once
        picture = torch.from_numpy(images.decode(values.pop("image"))).permute(2, 0, 1).contiguous()
        image = picture if self.transform is None else self.transform(picture)
        return {"image": image, **values, POSITION: position}


def _pass_of(seed: int, count: int) -> int:
    """The same in all workers of one pass of a loader: new processes have a new seed, and those that stay count."""
    return zlib.crc32(f"{seed} {count}".encode()) >> 10
