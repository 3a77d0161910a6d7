"""What the next batch needs of the CPU, prepared by other threads while the device works at this one.

Knows batches as lists of rows. What is prepared for one batch is used for that batch, once; any other batch (split, or
tried again) is prepared anew: generators that were drawn from are not what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from batchgen.engines.protocol import ImageRow


class Ahead:
    """prepare: the renderer's. threads: None prepares when it is asked for."""

    def __init__(self, prepare: Callable[[Sequence[ImageRow]], Any], threads: Executor | None) -> None:
        self._prepare, self._threads = prepare, threads
        self._begun: list[tuple[list[ImageRow], Future[Any]]] = []

    def begin(self, rows: Sequence[ImageRow]) -> None:
        """These rows, padding included, are most likely the next batch but one; forget what is older than the next."""
        if self._threads is not None:
            batch = list(rows)
            self._begun = [*self._begun[-1:], (batch, self._threads.submit(self._prepare, batch))]

    def take(self, rows: Sequence[ImageRow]) -> Any:
        """Raises what prepare raises."""
        batch = list(rows)
        for one in self._begun:
            if one[0] == batch:
                self._begun.remove(one)
                return one[1].result()
        return self._prepare(batch)
