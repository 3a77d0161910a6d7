"""What was made and may be wanted again, up to so many bytes; what was not wanted for longest goes first.

Made once, however many threads want it at the same time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Held(Generic[T]):
    """most: bytes, of which each thing has as many as `size` says. The newest stays, however large it is."""

    def __init__(self, most: int, size: Callable[[T], int]) -> None:
        self._most, self._size, self._bytes = most, size, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Future[T]] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What make() returned for this key, now or before. What it raises is not kept."""
        with self._lock:
            future = self._kept.get(key)
            mine = future is None
            if future is None:
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
        if mine:
            self._make(key, future, make)
        return future.result()

    def _make(self, key: Hashable, future: Future[T], make: Callable[[], T]) -> None:
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(made)
        with self._lock:
            self._bytes += self._size(made)
            for other in [one for one, held in self._kept.items() if held.done() and one != key]:
                if self._bytes <= self._most:
                    return
                self._bytes -= self._size(self._kept.pop(other).result())
