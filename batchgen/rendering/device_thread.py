"""The one thread of a renderer's process that touches its device, fed by a queue of closures.

On one thread, because handles and plans of cuBLAS and cuDNN belong to the thread that made them, and CUDA graphs do not
work in a second one. What runs here waits for no store: calls of Ray wait for it on threads of their own. Knows neither
renderers nor shards.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
LOOK_S = 1.0  # how often a call that waits for the device looks whether it should


class DeviceThread:
    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")

    def run(self, work: Callable[[], T]) -> T:
        """What work() returns or raises, when its turn has come."""
        return self._thread.submit(work).result()

    def run_unless(self, stopped: Callable[[], bool], work: Callable[[], T]) -> T | None:
        """The same; None where stopped() said so before its turn came. stopped() may take its time."""
        queued: Future[T] = self._thread.submit(work)
        while not wait([queued], LOOK_S).done and not queued.running():
            if stopped() and queued.cancel():
                return None
        return queued.result()
