"""`--max-gpu-hours`: what a driver's renderers have used, and when nothing of it is under way any more.

Renderers give back what is left once the sign is up, so the driver need not wait for the rest when all of them are
done. Knows the store and receipts, not Ray.
"""

from __future__ import annotations

import math
import time

from batchgen.rendering.receipt import Receipt
from batchgen.rendering.stop import Stop
from batchgen.run.attempts import running
from batchgen.storage.store import Store

SETTLED_S = 5.0  # between the device and its receipt a shard is briefly seen nowhere


class Budget:
    """hours: allowed to this session; None: as long as it takes. gpus: per renderer; one without a GPU counts as one.

    A renderer's time runs from its start, loading included, to its last receipt.
    """

    def __init__(self, store: Store, session: str, stop: Stop, hours: float | None, gpus: float) -> None:
        self.hours = math.inf if hours is None else hours
        self._store, self._session, self._stop, self._gpus = store, session, stop, gpus or 1.0
        self._seconds: dict[str, float] = {}
        self._at_work: dict[str, int] = {}  # renderer → shards it has not finished, since the sign is up
        self._quiet_since: float | None = None

    @property
    def used(self) -> float:
        return sum(self._seconds.values()) * self._gpus / 3600

    @property
    def spent(self) -> bool:
        return self.used >= self.hours

    def count(self, receipt: Receipt) -> None:
        """Add the time of a receipt; when it is too much, put up the sign."""
        self._seconds[receipt.renderer] = max(receipt.renderer_seconds, self._seconds.get(receipt.renderer, 0.0))
        if self.spent:
            self._stop.put_up()
        if receipt.unfinished is not None:
            self._at_work[receipt.renderer] = receipt.unfinished

    def over(self) -> bool:
        """Whether nothing is under way any more. Renderers that died do not answer, and are not waited for."""
        now = time.monotonic()
        if not self._at_work or any(self._at_work.values()):
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= SETTLED_S:
            self._quiet_since = now
            return not running(self._store, self._session)
        return False
