"""Files below one place, local or remote, by relative path: what all other rooms use to reach files.

Tries again while a store is busy, and says in words what is wrong. Knows no Parquet, no Ray and not what files mean;
how bytes reach a disk or a bucket is the business of its backends, Local and Remote.
Credentials and endpoints come from the environment of each process (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, profiles,
instance roles): a Store pickles as its URL, never with a secret.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from batchgen.errors import Infrastructure, Refused, StoreRefused
from batchgen.storage.answers import explain, is_missing, is_transient, text_of
from batchgen.storage.backends import Entry, Local, Remote
from batchgen.words import redact

__all__ = ["Entry", "Store", "StoreRefused", "redact"]

T = TypeVar("T")

PATIENCE_SECONDS = 900.0  # how long one operation is tried again while the store is busy or away
PROBE_SECONDS = 30.0  # the same for probe(): somebody is waiting for the answer
FIRST_DELAY, LONGEST_DELAY = 0.2, 60.0  # a wait is random, below a limit that doubles each time: "full jitter"

# Schemes whose create-if-absent is atomic. Everything else that fsspec knows can be read from.
CREATE_ONCE = {"file", "memory", "s3", "gs"}
ALIASES = {"local": "file", "s3a": "s3", "gcs": "gs"}
# fmt: off
SYSTEM_FOLDERS = {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run", "/sbin",
                  "/sys", "/tmp", "/usr", "/var"}


class Store:
    """A place for files. Cheap to make and to pickle; connects on first use, once in each process; thread-safe.

    All paths are relative to the root, with '/'. Errors: FileNotFoundError where a file is missing, Infrastructure for
    everything else; a busy or unreachable store is tried again for `patience` seconds before that.
    """

    def __init__(self, protocol: str, url: str, patience: float = PATIENCE_SECONDS) -> None:
        self.protocol, self.url, self.patience = protocol, url, patience
        self._lock = threading.Lock()
        self._connected: tuple[int, Local | Remote] | None = None  # process id, backend

    @classmethod
    def open(cls, url: str, patience: float = PATIENCE_SECONDS) -> Store:
        """A local path or an fsspec URL (file, s3, gs, memory; to read also https, hf, ...). Touches nothing."""
        if not url.strip() or "::" in url:
            raise Refused(f"{redact(url)!r} is not a place. Write a path or a URL such as s3://bucket/folder.")
        protocol, separator, rest = url.partition("://")
        if not separator:
            protocol, rest = "file", url
        protocol = ALIASES.get(protocol.lower(), protocol.lower())
        if protocol == "file":
            if separator and rest.partition("/")[0] == "localhost":  # file://localhost/x is file:///x
                rest = rest.removeprefix("localhost") or "/"
            return cls(protocol, os.path.abspath(os.path.expanduser(rest)), patience)
        if redact(url) != url:
            copied = " What needs a token in its URL, fetch yourself, and name the copy." if "http" in protocol else ""
            raise Refused(
                f"{redact(url)}: holds credentials. Write the URL without them, and set AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY (or a profile, or an instance role) in the environment.{copied}"
            )
        if protocol not in fsspec.available_protocols():
            raise Refused(f"{url}: the scheme {protocol}:// is not known. Use a path, file://, s3:// or gs://.")
        if protocol != "memory" and (not rest or rest.startswith("/")):
            raise Refused(f"{url}: names no bucket. Write {protocol}://BUCKET/FOLDER.")
        if protocol in CREATE_ONCE:  # elsewhere a doubled slash may mean something
            rest = "/".join(part for part in rest.split("/") if part)
        return cls(protocol, f"{protocol}://{rest.rstrip('/')}", patience)

    def at_most(self, seconds: float) -> Store:
        """The same place, where no operation is tried again for longer than this."""
        return Store(self.protocol, self.url, min(self.patience, seconds))

    def __reduce__(self) -> tuple[type[Store], tuple[str, str, float]]:
        return type(self), (self.protocol, self.url, self.patience)

    def __str__(self) -> str:
        return redact(self.url)

    def __repr__(self) -> str:
        return f"Store({str(self)!r})"

    @property
    def is_local(self) -> bool:
        return self.protocol == "file"

    @property
    def is_whole_system(self) -> bool:
        """Whether this is a folder of the system, or a user's home: not made for one purpose, and long to list."""
        return self.is_local and self.url in {os.path.expanduser("~"), *SYSTEM_FOLDERS}

    def read(self, path: str) -> bytes:
        return self._call("read", path, lambda backend: backend.read(path))

    def open_file(self, path: str, size: int | None = None) -> BinaryIO:
        """A seekable binary file, for pyarrow.parquet. Remote: each read is one range request, tried again as usual.

        size: its bytes, where a list has said them of a file that never changes; asking for them is a request.
        """
        if self.is_local:
            return self._call("read", path, lambda backend: cast(Local, backend).open(path))
        return cast(BinaryIO, _RangeFile(self, path, size))

    def size(self, path: str) -> int:
        return self._call("read", path, lambda backend: backend.size(path))

    def exists(self, path: str) -> bool:
        """Whether a file is there. A folder is not a file."""
        try:
            self.size(path)
        except FileNotFoundError:
            return False
        return True

    def create(self, path: str, data: bytes) -> bool:
        """Write a whole file unless something is there already. True: this call made it. Readers never see a part.

        False means that something is there, and that can be this very call's data: when the acknowledgement of a
        first try was lost, the second finds the object of the first. After an Infrastructure error the file may exist
        as well. Callers whose data is not the same in every attempt must look inside.
        """
        self._check_writable()
        return self._call("write", path, lambda backend: backend.create(path, data))

    def replace(self, path: str, data: bytes) -> None:
        """Write a whole file over whatever is there, atomically. Only for files that are a pure function of others."""
        self._check_writable()
        self._call("write", path, lambda backend: backend.replace(path, data))

    def delete(self, path: str) -> None:
        """Remove a file; no error if it is gone."""
        self._call("delete", path, lambda backend: backend.delete(path))

    def remove_made_folders(self) -> None:
        """Remove the folders that this process made and that are empty again, after what it wrote was deleted."""
        self._call("delete", "", lambda backend: backend.remove_made_folders())

    def remove_temporary(self) -> None:
        """Remove the folder of files that are being written, and what killed writers left there.

        For a place that is to hold nothing but its files. Who writes there at this moment, writes again.
        """
        self._call("delete", "", lambda backend: backend.remove_temporary())

    def refuse_unfit(self) -> None:
        """Places that no dataset can lie in, by their names alone: listing a whole disk would take long."""
        if "?versionid=" in self.url.lower() and not self.is_local:  # s3fs would cut off each file's name behind it
            bare = self.url[: self.url.lower().index("?versionid=")]
            raise Refused(f"output.path {self}: names one version of one file. Write {redact(bare)}.")
        if self.is_whole_system:
            raise Refused(f"output.path {self}: is no place for a dataset. Name a folder of its own in it.")

    def probe(self) -> None:
        """Prove that this place can be written to and that create-if-absent holds, or raise Refused saying why not."""
        self.refuse_unfit()
        store = self.at_most(PROBE_SECONDS)
        path, first, second = f".batchgen/probe-{uuid.uuid4().hex}", b"first", b"second"
        try:
            self._check_writable()
            store.list(".batchgen", recursive=False)  # may we list? SeaweedFS would also make a mistyped bucket
            store.create(path, first)  # False is no bad sign: see create()
            overwritten = store.create(path, second) or store.read(path) != first
            listed = path in {entry.path for entry in store.list(".batchgen", recursive=False)}
            with contextlib.suppress(StoreRefused):  # a store that never lets us delete is fine
                store.delete(path)
            store._call("write", "", lambda backend: backend.sweep())
        except (StoreRefused, FileNotFoundError) as error:
            store.remove_made_folders()
            raise Refused(f"{self}: cannot hold the output. {error}") from error
        self._connected = store._connected  # which also knows the folders that were made
        if overwritten:
            raise Refused(
                f"{self}: the store ignores 'If-None-Match: *', so two runs could overwrite each other. Use a store "
                "with conditional writes (AWS S3, SeaweedFS, Ceph, MinIO) or a local path."
            )
        if not listed:  # resuming lists what is committed; SeaweedFS makes a slash of a backslash
            raise Refused(
                f"{self}: the store keeps files there under other names, so that they are not found again. Name a "
                "folder of letters, digits, '-', '_' and '.'."
            )

    def list(self, prefix: str = "", recursive: bool = True) -> list[Entry]:
        """The files below a folder, sorted by path; nothing if there is no such folder."""
        return self._call("list", prefix, lambda backend: sorted(backend.list(prefix, recursive)))

    def _check_writable(self) -> None:
        if self.protocol not in CREATE_ONCE:
            raise StoreRefused(f"{self.protocol}:// cannot be written to. Use a local path, s3:// or gs://.")

    def _call(self, action: str, path: str, operation: Callable[[Local | Remote], T]) -> T:
        """Run one operation, again and again while the store is busy; any other error becomes one of ours."""
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} is not a path below the store")
        where = f"Cannot {action} {self}/{path}".rstrip("/")
        give_up = time.monotonic() + self.patience
        backend = self._connect()
        for attempt in itertools.count(1):
            try:
                return operation(backend)
            except backend.errors as error:
                if is_missing(error) and action != "write":
                    raise FileNotFoundError(errno.ENOENT, "no such file", f"{self}/{path}") from error
                if not is_transient(error):
                    self._connected = None  # the next call may find new credentials
                    raise StoreRefused(redact(f"{where}: {explain(error)}")) from error
                delay = random.SystemRandom().uniform(0, min(LONGEST_DELAY, FIRST_DELAY * 2**attempt))
                if time.monotonic() + delay > give_up:
                    tries = f"{attempt} tries in {self.patience:.0f} s ended with {text_of(error)}"
                    advice = "Check that the store is reachable, then run the same command again."
                    raise Infrastructure(redact(f"{where}: {tries}. {advice}")) from error
            time.sleep(delay)
        raise AssertionError("unreachable")

    def _connect(self) -> Local | Remote:
        with self._lock:
            if self._connected is None or self._connected[0] != os.getpid():
                self._connected = os.getpid(), Local(self.url) if self.is_local else Remote(self.protocol, self.url)
            return self._connected[1]


class _RangeFile(io.RawIOBase):
    """A remote file as one range request per read. No read-ahead: Parquet readers know what they want."""

    def __init__(self, store: Store, path: str, size: int | None) -> None:
        super().__init__()
        self._store, self._path, self._position = store, path, 0
        self._size = store.size(path) if size is None else size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        start, end = self._position, min(self._position + len(buffer), self._size)
        if start >= end:
            return 0
        data = self._store._call("read", self._path, lambda b: cast(Remote, b).read_range(self._path, start, end))
        if len(data) != end - start:
            raise Infrastructure(f"Cannot read {self._store}/{self._path}: the store does not answer range requests.")
        buffer[: len(data)] = data
        self._position = end
        return len(data)
