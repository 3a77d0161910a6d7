"""`--max-gpu-hours`: what a driver's renderers have used, and the sign at which they take no further shard.

Ray Data hands out what it was given, whatever happens: what is left still comes to renderers, which see the sign, a
file, and give each shard back at once. That is a hundred shards a second, so once nothing is under way any more the
driver need not wait for the rest. Knows the store and receipts, not Ray.
"""

from __future__ import annotations

import math
import time
from typing import Self

from batchgen.render.receipt import Receipt
from batchgen.run.attempts import running
from batchgen.run.layout import HIDDEN
from batchgen.storage.store import Store

SETTLED_S = 5.0  # between the device and its receipt a shard is briefly seen nowhere


def sign(session: str) -> str:
    return f"{HIDDEN}/stop-{session}"


class Budget:
    """The driver's side: `with Budget(...) as budget`, at whose end the sign is taken down.

    hours: allowed to this session; None: as long as it takes. gpus: per renderer; one without a GPU counts as one.
    A renderer's time runs from its start, loading included, to its last receipt.
    """

    def __init__(self, store: Store, session: str, hours: float | None, gpus: float) -> None:
        self.hours = math.inf if hours is None else hours
        self._store, self._session, self._gpus = store, session, gpus or 1.0
        self._seconds: dict[str, float] = {}
        self._stopped = False
        self._at_work: dict[str, int] = {}  # renderer → shards it has not finished, since the sign is up
        self._quiet_since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """However the session ends: no renderer of it is left that should see the sign."""
        if self._stopped:
            self._store.delete(sign(self._session))

    @property
    def limited(self) -> bool:
        return self.hours < math.inf

    @property
    def used(self) -> float:
        return sum(self._seconds.values()) * self._gpus / 3600

    @property
    def spent(self) -> bool:
        return self.used >= self.hours

    def count(self, receipt: Receipt) -> None:
        """Add the time of a receipt; when it is too much, put up the sign."""
        self._seconds[receipt.renderer] = max(receipt.renderer_seconds, self._seconds.get(receipt.renderer, 0.0))
        if self.spent and not self._stopped:
            self._store.replace(sign(self._session), b"stop")
            self._stopped = True
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


class Stop:
    """The renderer's side: whether the sign is up. A session without a budget does not ask the store."""

    def __init__(self, store: Store, session: str, budgeted: bool) -> None:
        self._store, self._path = store, sign(session)
        self._budgeted, self._seen = budgeted, False

    def asked(self) -> bool:
        self._seen = self._seen or (self._budgeted and self._store.exists(self._path))
        return self._seen
