"""Pictures of runs for a page: as they are stored, and small. Keeps those that were read last.

Neighbours on the page are mostly neighbours in a file, so that a file stays open in memory for a while.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from batchgen.errors import Refused
from batchgen.evaluate.thumbnails import small
from batchgen.export.pictures import Pictures
from batchgen.run.directory import Run
from batchgen.run.images import FORMATS, is_in
from batchgen.run.layout import data_path
from batchgen.view.held import Held

SIDE = 256  # of small ones
SMALL_BYTES = 200_000_000
FILES = 6  # of which a row group is held, of 100 MB at most
IMAGE_ID = re.compile(r"[\w.-]{1,200}")


class OneFile:
    """The pictures of one file, for many threads."""

    def __init__(self, run: Run, path: str) -> None:
        self._pictures, self._path, self._lock = Pictures(run), path, threading.Lock()

    def read(self, image_id: str) -> bytes:
        with self._lock:
            return self._pictures.read(self._path, image_id)


class Album:
    """Of several runs."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._small = Held[bytes](SMALL_BYTES, len)
        self._files = Held[OneFile](FILES, lambda file: 1)

    def stored(self, run: int, shard: int, image_id: str) -> bytes:
        """As it is encoded. Raises Refused where no such picture can be, Infrastructure where it cannot be read."""
        if not 0 <= run < len(self._runs) or not IMAGE_ID.fullmatch(image_id):
            raise Refused("there is no such picture.")
        path = data_path(shard)
        return self._files.get((run, shard), lambda: OneFile(self._runs[run], path)).read(image_id)

    def small(self, run: int, shard: int, image_id: str) -> bytes:
        """A JPEG of at most SIDE pixels."""
        return self._small.get((run, shard, image_id), lambda: small(self.stored(run, shard, image_id), SIDE))


def media_type(data: bytes) -> str:
    """Of one of the formats that are stored; of anything else that of bytes, which no browser shows."""
    kind = next((name for name in FORMATS if is_in(data, name)), None)
    return f"image/{kind}" if kind else "application/octet-stream"
