"""The devices of a session by their receipts: which there are, which are set aside, and when it is not worth going on.

Knows receipts and the job's limits, neither Ray nor the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from batchgen.errors import Infrastructure, TooManyFailures
from batchgen.job import Job
from batchgen.rendering.receipt import Receipt
from batchgen.run.doubts import mark

FAILURES_ALLOWED = 100  # of a session, whatever fraction of the run that is
LOST_S = 300.0  # without a finished shard, where all devices that were heard of are set aside


class Crew:
    """planned: images of the whole run. now: a clock, for tests."""

    def __init__(self, job: Job, planned: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most = job.cluster.renderers.max_size or 1
        self._fraction, self._planned, self._now = job.errors.max_failed_fraction, planned, now
        self._devices: set[str] = set()
        self._aside: dict[str, str] = {}
        self._failed, self._why = 0, ""
        self.finished: set[int] = set()  # shards; one that was doubted may be heard of twice
        self._last_done = now()

    def count(self, receipt: Receipt) -> str | None:
        """Take note of a receipt; returns what a person should read of it. Raises Infrastructure if nobody is left."""
        self._devices.add(receipt.device)
        if receipt.is_done:
            self._last_done = self._now()
            self._failed += receipt.failed if receipt.shard not in self.finished else 0
            self._why = receipt.why or self._why
            self.finished.add(receipt.shard)
        if receipt.sick is None or receipt.device in self._aside:
            self._raise_if_lost()
            return None
        self._aside[receipt.device] = receipt.sick
        self._raise_if_lost()
        return _said(receipt.sick)

    def _raise_if_lost(self) -> None:
        waited = self._now() - self._last_done
        nobody = self._aside and self._devices <= set(self._aside)
        if nobody and (len(self._aside) >= self._most or waited > LOST_S):
            reasons = "\n".join(f"  - {why}" for why in self._aside.values())
            raise Infrastructure(f"No renderer is left that works:\n{reasons}\nMend or replace it and run this again.")

    def know_aside(self, aside: dict[str, str]) -> list[str]:
        """Take note of devices that were set aside, and why; returns what a person should read of those not known yet.

        Raises Infrastructure if nobody is left.
        """
        news = [_said(why) for device, why in aside.items() if device not in self._aside]
        self._devices |= set(aside)
        self._aside |= aside
        self._raise_if_lost()
        return news

    def aside(self, had_their_say: set[str]) -> frozenset[str]:
        """Marks of devices that leave the next execution to others. had_their_say: those with nothing new to say."""
        others = {mark(device) for device in self._devices - set(self._aside)} - had_their_say
        return frozenset({mark(device) for device in self._aside} | (had_their_say if others else set()))

    def is_one_device(self, asked_in_vain: bool) -> bool:
        """Whether no second device could give its opinion. asked_in_vain: in the last execution nobody did."""
        return self._most == 1 or (asked_in_vain and len(self._devices) == 1)

    def too_many_failures(self) -> TooManyFailures | None:
        """Whether more rows failed in this session than a run is worth going on with."""
        if self._failed <= max(FAILURES_ALLOWED, self._fraction * self._planned):
            return None
        return TooManyFailures(
            f"Stopped early: {self._failed} rows failed since this command began, more than {FAILURES_ALLOWED} "
            f"and more than errors.max_failed_fraction, {self._fraction:g}, allows of the whole run. The last one: "
            f"{self._why}. What is rendered is kept. Mend what is wrong, or raise max_failed_fraction, and run the "
            "same command again; --retry-failed tries the failed rows once more."
        )


def _said(why: str) -> str:
    return f"set aside: {why}. Others do its work"
