"""A file too large for memory: written piece by piece to a disk of this machine, then put in its place whole.

On a disk the draft lies beside the other files that are being written, and takes its name by a link; an object store is
sent it in pieces. Knows no meaning of a file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from batchgen.errors import StoreRefused
from batchgen.storage.answers import TMP, answer_of, explain
from batchgen.storage.backends import Local, Remote
from batchgen.storage.store import Store

BUFFER = 4 * 2**20  # of the file: one call of the system for many small pieces
PIECE = 50 * 2**20  # of an upload; a file of less than two is sent as one
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Draft:
    """`with Draft(store) as draft`: write to draft.file, which can be sought, then create() it. Gone at the end."""

    file: BinaryIO

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = Path()

    def __enter__(self) -> Self:
        self._path = self._store._call("write", "", _new_path)
        self.file = open(self._path, "x+b", buffering=BUFFER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # what could not be written before cannot be now
            self.file.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
        if isinstance(error, OSError) and error.errno in FULL:
            raise StoreRefused(f"Cannot write {self._path} for {self._store}: {explain(error)}") from error

    def create(self, path: str) -> bool:
        """As Store.create: False means that something is there, which may be this very draft.

        A store that does not check If-None-Match of a file in several pieces takes the last that is sent. So writers
        who may meet must write the same.
        """
        self._store._check_writable()
        self.file.flush()
        os.fsync(self.file.fileno())
        return self._store._call("write", path, lambda backend: _put(backend, self._path, path))

    def is_at(self, path: str) -> bool:
        """Whether what is there is, byte for byte, this draft."""
        self.file.flush()
        with self._store.open_file(path) as theirs:
            if theirs.seek(0, os.SEEK_END) != self._path.stat().st_size:
                return False
            return _digest(self.file) == _digest(theirs)


def _digest(file: BinaryIO) -> bytes:
    file.seek(0)
    found = hashlib.sha256()
    while piece := file.read(PIECE):
        found.update(piece)
    return found.digest()


def _new_path(backend: Local | Remote) -> Path:
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    if isinstance(backend, Local):
        folder = os.path.join(backend.root, TMP)
        backend.make_folder(folder)
        return Path(folder, name)
    return Path(tempfile.gettempdir(), f"batchgen-{name}")


def _put(backend: Local | Remote, draft: Path, path: str) -> bool:
    if isinstance(backend, Local):
        return backend.create(path, draft)
    if backend.protocol == "memory":
        return backend.create(path, draft.read_bytes())
    try:
        backend.fs.put_file(str(draft), backend.key(path), mode="create", chunksize=PIECE)
    except backend.errors as error:
        if isinstance(error, FileExistsError) or answer_of(error)[0] == 412:
            return False
        raise
    return True
