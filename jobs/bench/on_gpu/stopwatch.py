"""Seconds and bytes of work on a device: the device is waited for before and after, memory is its allocator's peak.

Knows no model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@dataclass
class Stopwatch:
    """deadline: by time.perf_counter(), when everything has to be over."""

    device: torch.device
    deadline: float
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    @property
    def left(self) -> float:
        return self.deadline - time.perf_counter()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any]) -> float:
        return self.timed(work)[0]

    def timed(self, work: Callable[[], T]) -> tuple[float, T]:
        self.wait()
        began = time.perf_counter()
        result = work()
        self.wait()
        return time.perf_counter() - began, result

    def median(self, work: Callable[[], Any], repeats: int, warm_ups: int = 1) -> float:
        for _ in range(warm_ups):
            work()
        return statistics.median(self.seconds(work) for _ in range(repeats))

    def peak(self, work: Callable[[], T]) -> tuple[int | None, T]:
        """The most bytes that tensors took while it ran, those that were there before included. None without a GPU."""
        if self.device.type != "cuda":
            return None, work()
        self.wait()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        result = work()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device), result
