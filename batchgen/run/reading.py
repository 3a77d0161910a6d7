"""Reads, or writes, many files at once, and answers in the order in which it was asked.

On an object store a file is waiting and not work, so many readers help; on a disk Arrow works beside Python. Knows no
file and no store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

READERS = 16
WINDOW = 16  # items for each reader that are read ahead, so that memory does not grow with the run

S = TypeVar("S")
T = TypeVar("T")


def in_order(
    items: Iterable[S], read: Callable[[S], T], readers: int = READERS, window: int | None = None
) -> Iterator[T]:
    """read() of each item, in their order, several at a time; only a window of them is held at once."""
    with ThreadPoolExecutor(readers) as pool:
        yield from ahead(pool, read, items, window or readers * WINDOW)


def ahead(pool: Executor, work: Callable[[S], T], items: Iterable[S], window: int) -> Iterator[T]:
    """work() of each item, in their order. window: how many are at work or wait to be taken."""
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # nobody wants the rest, after an error or where the caller has seen enough
        for future in waiting:
            future.cancel()
