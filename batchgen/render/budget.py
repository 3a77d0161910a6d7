"""`--max-gpu-hours`: what a driver's renderers have used, and the sign at which they take no further shard.

Ray Data hands out what it was given, whatever happens: what is left still comes to renderers, which see the sign, a
file, and give each shard back at once. That is a hundred shards a second, so once nothing is under way any more the
driver need not wait for the rest. Knows the store and receipts, not Ray.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from batchgen.run.attempts import running
from batchgen.run.layout import HIDDEN
from batchgen.storage.store import Store

SETTLED_S = 5.0  # between the device and its receipt a shard is seen nowhere for a moment


def sign(session: str) -> str:
    return f"{HIDDEN}/stop-{session}"


class Budget:
    """The driver's side. hours: allowed to this session. gpus: of one renderer; one without a GPU counts as one.

    A renderer's time runs from its start, loading included, to its last receipt.
    """

    def __init__(self, store: Store, session: str, hours: float, gpus: float) -> None:
        self.hours = hours
        self._store, self._session, self._gpus = store, session, gpus or 1.0
        self._seconds: dict[str, float] = {}
        self._stopped = False
        self._at_work: dict[str, int] = {}  # renderer → shards it has not finished, since the sign is up
        self._quiet_since: float | None = None

    @property
    def used(self) -> float:
        return sum(self._seconds.values()) * self._gpus / 3600

    @property
    def spent(self) -> bool:
        return self.used >= self.hours

    def count(self, receipt: Mapping[str, Any]) -> None:
        """Add the time of a receipt; when it is too much, put up the sign."""
        renderer, seconds = receipt["renderer"], receipt["renderer_seconds"] or 0.0
        self._seconds[renderer] = max(seconds, self._seconds.get(renderer, 0.0))
        if self.spent and not self._stopped:
            self._store.replace(sign(self._session), b"stop")
            self._stopped = True
        if receipt["unfinished"] is not None:
            self._at_work[renderer] = receipt["unfinished"]

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

    def lift(self) -> None:
        """Take the sign down, once no renderer is left to see it."""
        if self._stopped:
            self._store.delete(sign(self._session))


class Stop:
    """The renderer's side: whether the sign is up. A session without a budget does not ask the store."""

    def __init__(self, store: Store, session: str, budgeted: bool) -> None:
        self._store, self._path = store, sign(session)
        self._budgeted, self._seen = budgeted, False

    def asked(self) -> bool:
        self._seen = self._seen or (self._budgeted and self._store.exists(self._path))
        return self._seen
