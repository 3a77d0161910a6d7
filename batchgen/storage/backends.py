"""Reads and writes files on a disk or in an object store, trying once.

Does not try again, hides no secrets in messages and checks no URLs: that is the Store's part. What their errors mean
stands in `storage.answers`.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import socket
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from batchgen.errors import Refused
from batchgen.storage.answers import TMP, answer_of, is_missing

T = TypeVar("T")

FOLDER_TRIES = 9
TMP_SECONDS = 24 * 3600.0  # an older file in it was left by a writer that was killed
ONE_PUT = 5 * 2**30  # s3fs turns anything of two chunks into a multipart upload, and not every store checks those
MEMORY_LOCK = threading.Lock()  # fsspec's memory file system looks first and writes later

LIBRARY_ERRORS = {  # what fsspec's file systems raise besides OSError; loaded only where they are used
    "s3": ["botocore.exceptions.BotoCoreError", "botocore.parsers.ResponseParserError", "aiohttp.ClientError"],
    "gs": ["gcsfs.retry.HttpError", "google.auth.exceptions.GoogleAuthError"],
    "http": ["aiohttp.ClientError"],
    "https": ["aiohttp.ClientError"],
}
VERSIONS = ("ETag", "etag", "LastModified", "mtime", "created")  # how s3fs, gcsfs and others call it


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file. path: relative to the root of the store. size: bytes. version: changes when the content does."""

    path: str
    size: int
    version: str = field(default="", compare=False)


class Local:
    """Files on a disk. A file is complete and safe from a power cut before it gets its name. Raises OSError."""

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, root: str) -> None:
        self.root = root
        self._made: list[str] = []  # folders, parents first

    def read(self, path: str) -> bytes:
        with self.open(path) as file:
            return file.read()

    def open(self, path: str) -> BinaryIO:
        return open(os.path.join(self.root, path), "rb")

    def size(self, path: str) -> int:
        status = os.stat(os.path.join(self.root, path))
        if stat.S_ISDIR(status.st_mode):
            raise FileNotFoundError(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ESPIPE, "no regular file")  # its size says nothing, and reading it may never end
        return status.st_size

    def list(self, prefix: str, recursive: bool) -> Iterator[Entry]:
        folder = os.path.join(self.root, prefix)
        if not os.path.isdir(folder):
            return
        with os.scandir(folder) as items:
            for item in items:
                path = f"{prefix}/{item.name}".lstrip("/")
                if path == TMP:
                    continue
                if item.is_file():
                    with contextlib.suppress(FileNotFoundError):  # deleted since
                        status = item.stat()
                        yield Entry(path, status.st_size, str(status.st_mtime_ns))
                elif recursive and item.is_dir(follow_symlinks=False):  # a link may lead to its own parent
                    yield from self.list(path, recursive)

    def create(self, path: str, data: bytes | Path) -> bool:
        """data: Path of a file below TMP, that is on the disk already."""
        return self._in_folders(lambda: self._create(path, data))

    def _create(self, path: str, data: bytes | Path) -> bool:
        with self._written(path, data) as (written, final):
            try:
                os.link(written, final)  # unlike rename, fails if the name is taken
            except FileExistsError:
                return os.stat(written).st_nlink > 1  # NFS may do the link and still report that it failed
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOSYS):  # FAT and some FUSE file systems
                    raise OSError(errno.ENOTSUP, "no hard links") from error
                raise
        return True

    def replace(self, path: str, data: bytes) -> None:
        self._in_folders(lambda: self._replace(path, data))

    def _replace(self, path: str, data: bytes) -> None:
        with self._written(path, data) as (written, final):
            os.replace(written, final)

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.root, path))

    def remove_made_folders(self) -> None:
        """Remove the folders that this object made and that are empty again."""
        while self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self._made.pop())

    def sweep(self) -> None:
        """Remove what killed writers left. The disk's own clock tells how old it is: those of machines may be wrong."""
        self._in_folders(self._sweep)

    def _sweep(self) -> None:
        with self._written(f"{TMP}/now", b"") as (now, _), os.scandir(os.path.dirname(now)) as items:
            oldest = os.stat(now).st_mtime - TMP_SECONDS
            for item in items:
                with contextlib.suppress(FileNotFoundError):
                    if item.stat().st_mtime < oldest:
                        os.unlink(item.path)

    def remove_temporary(self) -> None:
        shutil.rmtree(os.path.join(self.root, TMP), ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: a run lies here
            os.rmdir(os.path.join(self.root, os.path.dirname(TMP)))

    def _in_folders(self, write: Callable[[], T]) -> T:
        """Write, again where a folder vanishes meanwhile: another planner takes back folders that it made, if empty."""
        for _ in range(FOLDER_TRIES):
            with contextlib.suppress(FileNotFoundError):
                return write()
        return write()

    @contextlib.contextmanager
    def _written(self, path: str, data: bytes | Path) -> Iterator[tuple[str, str]]:
        """(temporary name of the data on disk, final name in a folder that exists). Syncs that folder afterwards."""
        final = os.path.join(self.root, path)
        temporary = os.path.join(self.root, TMP, f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}")
        try:
            for name in (temporary, final):
                self.make_folder(os.path.dirname(name))
            if isinstance(data, bytes):
                with open(temporary, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            yield str(data) if isinstance(data, Path) else temporary, final
            _sync_folder(os.path.dirname(final))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def make_folder(self, folder: str) -> None:
        if os.path.isdir(folder):
            return
        parent = os.path.dirname(folder)
        self.make_folder(parent)
        with contextlib.suppress(FileExistsError):  # somebody else was faster; or a file, and then the next step fails
            os.mkdir(folder)
            self._made.append(folder)
        _sync_folder(parent)


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # SMB and some FUSE file systems cannot
            raise
    finally:
        os.close(handle)


class Remote:
    """Objects of an fsspec file system, with its retries and caches off: Store tries again, and caches grow old."""

    def __init__(self, protocol: str, url: str) -> None:
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if protocol == "s3":
            once = {"total_max_attempts": 1, "mode": "standard"}
            options["config_kwargs"] = {"retries": once, "connect_timeout": 10, "read_timeout": 60}
            options["max_concurrency"] = 1  # one GET for a whole file, instead of a HEAD and several GETs
        elif protocol == "memory":
            options = {}  # its instances share the files; the listings are the files
        try:
            self.fs = fsspec.filesystem(protocol, **options)
            library = [name.rpartition(".") for name in LIBRARY_ERRORS.get(protocol, [])]
            self.errors = (OSError, *(getattr(importlib.import_module(module), name) for module, _, name in library))
        except ImportError as error:
            raise Refused(f"{url}: {error}") from error
        self.put_options: dict[str, Any] = {}
        if protocol == "s3":
            self.fs.retries = 1
            self.put_options = {"chunksize": ONE_PUT}
        self.protocol, self.root = protocol, str(self.fs._strip_protocol(url)).rstrip("/")

    def key(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def read(self, path: str) -> bytes:
        return cast(bytes, self.fs.cat_file(self.key(path)))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return cast(bytes, self.fs.cat_file(self.key(path), start=start, end=end))

    def size(self, path: str) -> int:
        details = self.fs.info(self.key(path))
        if details["type"] != "file":
            raise FileNotFoundError(path)
        return int(details["size"])

    def list(self, prefix: str, recursive: bool) -> Iterator[Entry]:
        key = self.key(prefix)
        try:
            # Not find(maxdepth=1): that walks, and a walk takes an error for an empty folder.
            items = self.fs.find(key, detail=True).values() if recursive else self.fs.ls(key, detail=True)
        except FileNotFoundError as error:
            if not is_missing(error):
                raise
            return
        for item in items:
            name = str(item["name"])
            if item["type"] == "file" and name.startswith(key + "/") and not name.endswith("/"):
                version = next((str(item[key]) for key in VERSIONS if item.get(key)), "")
                yield Entry(name[len(self.root) + 1 :], int(item["size"]), version)

    def create(self, path: str, data: bytes) -> bool:
        try:
            with MEMORY_LOCK if self.protocol == "memory" else contextlib.nullcontext():
                self.fs.pipe_file(self.key(path), data, mode="create", **self.put_options)
        except self.errors as error:
            # AWS and moto name the condition and become FileExistsError; SeaweedFS and Ceph do not: OSError(EINVAL).
            if isinstance(error, FileExistsError) or answer_of(error)[0] == 412:
                return False
            raise
        return True

    def replace(self, path: str, data: bytes) -> None:
        self.fs.pipe_file(self.key(path), data, **self.put_options)

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.key(path))

    def remove_made_folders(self) -> None:
        """There are no folders."""

    def remove_temporary(self) -> None:
        """There is none."""

    def sweep(self) -> None:
        """Nothing to do: one PUT leaves nothing behind."""
