"""Waiting for what another thread produces, but not for ever.

Turns an iterator that may block for ever into one that raises instead. Knows neither Ray nor what the items are.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
IDLE_S = 0.5
THREAD = "batchgen-watched"  # name of the threads that wait


@dataclass(frozen=True, slots=True)
class Patience:
    """How long without an item or a sign of life is too long.

    first_s covers waiting for nodes and loading weights. Later: `factor` times the longest wait so far, at least
    least_s, which is longer than renderers take between two signs of life.
    """

    first_s: float = 3600.0
    least_s: float = 900.0
    factor: float = 10.0


class Stalled(Exception):
    """Neither an item nor a sign of life for too long."""


def watched(
    source: Iterator[T], patience: Patience, signs: Callable[[], object], idle: Callable[[], None]
) -> Iterator[T]:
    """Items of source as they come. While there is none, idle() is called twice a second.

    When patience is at its end, signs() is asked again: if its answer is not the one before, somebody is alive, and the
    wait begins anew. Raises Stalled, or whatever source raises. Who closes this iterator closes source, too, as soon as
    that has produced one more item.
    """
    items: queue.Queue[tuple[T] | BaseException | None] = queue.Queue()
    closed = threading.Event()
    threading.Thread(target=_pump, args=(source, items, closed), name=THREAD, daemon=True).start()
    longest, limit, since, seen = 0.0, patience.first_s, time.monotonic(), signs()
    try:
        while True:
            try:
                item = items.get(timeout=IDLE_S)
            except queue.Empty:
                idle()
                waited = time.monotonic() - since
                if waited > limit:
                    now = signs()
                    if now == seen:
                        raise Stalled(f"no sign of life for {waited:.0f} s") from None
                    since, seen = time.monotonic(), now
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            longest = max(longest, time.monotonic() - since)
            since, limit = time.monotonic(), max(patience.least_s, patience.factor * longest)
            yield item[0]
    finally:
        closed.set()


def _pump(source: Iterator[T], items: queue.Queue[tuple[T] | BaseException | None], closed: threading.Event) -> None:
    try:
        for item in source:
            items.put((item,))
            if closed.is_set():
                return
        items.put(None)
    except BaseException as error:  # noqa: BLE001  it is raised again in the thread that waits
        items.put(error)
