"""The sign at which renderers take no further shard. The driver puts it up, and what is left comes back at once.

Ray Data hands out what it was given, whatever happens: with the sign up that is a hundred shards a second. Knows the
store only.
"""

from __future__ import annotations

from typing import Self

from batchgen.run.layout import HIDDEN
from batchgen.storage.store import Store


def _sign(session: str) -> str:
    return f"{HIDDEN}/stop-{session}"


class Stop:
    """The sign of one driver's session, from both sides. `with Stop(...)` is the driver's: it is gone at the end."""

    def __init__(self, store: Store, session: str) -> None:
        self._store, self._path, self._seen = store, _sign(session), False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.take_down()

    def put_up(self) -> None:
        if not self._seen:
            self._store.replace(self._path, b"stop")
        self._seen = True

    def take_down(self) -> None:
        """No renderer is left that should see it."""
        if self._seen:
            self._store.delete(self._path)
        self._seen = False

    def asked(self) -> bool:
        self._seen = self._seen or self._store.exists(self._path)
        return self._seen
