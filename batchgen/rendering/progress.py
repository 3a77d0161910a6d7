"""Receipts → what a person sees: a live bar on a terminal, a plain line every ten seconds in a log.

Knows receipts and a console, neither Ray nor files. Speed is that of this session, over the last minutes, so that the
time left is honest after a pause or when renderers join.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from batchgen.words import duration, say

LINE_EVERY_S = 10.0
WINDOW_S = 300.0


class Tally:
    """Counts of a rendering session and its speed. now: a clock, for tests."""

    def __init__(self, total: int, done: int, failed: int, now: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done, self.failed, self.suspect = total, done, failed, 0
        self._now, self._began, self._before = now, now(), done
        self._recent: deque[tuple[float, int]] = deque([(now(), done)])

    def add(self, images: int, failed: int, suspect: int) -> None:
        self.done += images + failed
        self.failed += failed
        self.suspect += suspect
        self._recent.append((self._now(), self.done))
        while len(self._recent) > 2 and self._recent[-1][0] - self._recent[0][0] > WINDOW_S:
            self._recent.popleft()

    @property
    def images_per_s(self) -> float:
        (began, before), (_, now) = self._recent[0], self._recent[-1]
        elapsed = self._now() - began
        return (now - before) / elapsed if elapsed > 0 else 0.0

    def line(self) -> str:
        if self.done == self._before < self.total:  # a bar that stands at 0 looks like one that hangs
            waited = duration(self._now() - self._began)
            return f"{self.done}/{self.total} images; no shard is finished yet, {waited} since renderers were started"
        speed = self.images_per_s
        left = duration((self.total - self.done) / speed) if speed > 0 else "unknown"
        suspect = f", {self.suspect} suspect" if self.suspect else ""
        share = self.done / self.total if self.total else 1.0
        return (
            f"{self.done}/{self.total} images ({share:.0%}), {speed:.2f} images/s, "
            f"{self.failed} failed{suspect}, {left} left"
        )


class Display:
    """Shows a tally while a block runs: `with Display(tally, console) as show: ... show.update()`."""

    def __init__(self, tally: Tally, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self.tally, self.console, self._now = tally, console, now
        self._printed = now()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
                console=self.console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("starting renderers", total=self.tally.total, completed=self.tally.done)
            self._bar.start()
        else:
            self._print("starting renderers")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._print(self.tally.line())

    def update(self) -> None:
        """Show the tally; in a log at most once in ten seconds. Call it also while nothing happens."""
        if self._bar is not None:
            line = self.tally.line()
            description = line.partition("), ")[2] or line.partition("; ")[2]
            self._bar.update(self._task, completed=self.tally.done, description=description)
        elif self._now() - self._printed >= LINE_EVERY_S:
            self._print(self.tally.line())

    def note(self, line: str) -> None:
        """Something a person should read, now."""
        self._print(line)

    def _print(self, line: str) -> None:
        self._printed = self._now()
        say(self.console, line)
