"""Reads, or writes, many files at once, and answers in the order in which it was asked.

On an object store a file is waiting and not work, so many readers help; on a disk Arrow works beside Python. Knows no
file and no store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READERS = 16
WINDOW = 16  # items for each reader that are read ahead, so that memory does not grow with the run

S = TypeVar("S")
T = TypeVar("T")


def in_order(
    items: Iterable[S], read: Callable[[S], T], readers: int = READERS, window: int | None = None
) -> Iterator[T]:
    """read() of each item, in their order, several at a time; only a window of them is held at once."""
    window = window or readers * WINDOW
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(readers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(read, item))
                if len(ahead) >= window:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # nobody wants the rest, after an error or where the caller has seen enough
            for waiting in ahead:
                waiting.cancel()
