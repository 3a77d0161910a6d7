"""Work that is done ahead of whoever takes its results: in threads, in order, never too much of it at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(pool: Executor, function: Callable[[A], B], inputs: Iterable[A], window: int) -> Iterator[B]:
    """function() of each input, in their order. window: how many are at work or wait to be taken."""
    waiting: deque[Future[B]] = deque()
    try:
        for one in inputs:
            waiting.append(pool.submit(function, one))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
