"""Reads and writes files on a disk or in an object store, trying once, and says what the errors of both mean.

Does not try again, hides no secrets in messages and checks no URLs: that is the Store's part.
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
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from batchgen.errors import Refused

T = TypeVar("T")

TMP = ".batchgen/tmp"  # for files that are being written; on local disks only, and never listed
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
TRANSIENT_CLASSES = {
    "ConnectionError",  # Python's, and botocore's EndpointConnectionError, ConnectTimeoutError, ...
    "TimeoutError",
    "HTTPClientError",  # botocore: closed connections, read timeouts
    "IncompleteReadError",
    "ResponseParserError",
    "ClientConnectionError",  # aiohttp
    "ClientPayloadError",
}
TRANSIENT_ERRNOS = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO}
TRANSIENT_CODES = {"SlowDown", "RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
TRANSIENT_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504}

NO_SPACE = "the disk is full. Free some space and run the same command again."
DENIED = "permission denied for user {user}. Give this user the right to do it, or choose another folder."
EXPLAINED_ERRNOS = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EROFS: "the file system is read-only.",
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EFBIG: "the file is larger than this file system or `ulimit -f` allows.",
    errno.EXDEV: f"the folder is on another disk than {TMP} beside it. Put both on one disk.",
    errno.ENOTSUP: "this file system has no hard links, so create-if-absent cannot be atomic. Choose another disk.",
    errno.ENOTDIR: "a part of the path is a file, not a folder.",
    errno.EISDIR: "it is a folder.",
    errno.ESPIPE: "it is a pipe or a device. Write what comes out of it to a file, and name that.",
}
EXPLAINED_CODES = {
    "NoSuchBucket": "the bucket does not exist. Create it, or correct the URL.",
    "InvalidAccessKeyId": "the store does not know {key}. Check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.",
    "SignatureDoesNotMatch": "the secret does not belong to {key}. Check AWS_SECRET_ACCESS_KEY.",
    "ExpiredToken": "the credentials ({key}) have expired. Renew them and run the same command again.",
    "RequestTimeTooSkewed": "the clock of this machine is wrong. Set it (NTP) and run the same command again.",
    "QuotaExceeded": NO_SPACE,
    "400": "bad request, without a reason. Often the credentials ({key}) have expired or belong to another region.",
}
PERMISSIONS = "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"


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

    def create(self, path: str, data: bytes) -> bool:
        return self._in_folders(lambda: self._create(path, data))

    def _create(self, path: str, data: bytes) -> bool:
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
    def _written(self, path: str, data: bytes) -> Iterator[tuple[str, str]]:
        """(temporary name of the data on disk, final name in a folder that exists). Syncs that folder afterwards."""
        final = os.path.join(self.root, path)
        temporary = os.path.join(self.root, TMP, f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}")
        try:
            for name in (temporary, final):
                self._make_folder(os.path.dirname(name))
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, final
            _sync_folder(os.path.dirname(final))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _make_folder(self, folder: str) -> None:
        if os.path.isdir(folder):
            return
        parent = os.path.dirname(folder)
        self._make_folder(parent)
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

    def _key(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def read(self, path: str) -> bytes:
        return cast(bytes, self.fs.cat_file(self._key(path)))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return cast(bytes, self.fs.cat_file(self._key(path), start=start, end=end))

    def size(self, path: str) -> int:
        details = self.fs.info(self._key(path))
        if details["type"] != "file":
            raise FileNotFoundError(path)
        return int(details["size"])

    def list(self, prefix: str, recursive: bool) -> Iterator[Entry]:
        key = self._key(prefix)
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
                self.fs.pipe_file(self._key(path), data, mode="create", **self.put_options)
        except self.errors as error:
            # AWS and moto name the condition and become FileExistsError; SeaweedFS and Ceph do not: OSError(EINVAL).
            if isinstance(error, FileExistsError) or answer_of(error)[0] == 412:
                return False
            raise
        return True

    def replace(self, path: str, data: bytes) -> None:
        self.fs.pipe_file(self._key(path), data, **self.put_options)

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._key(path))

    def remove_made_folders(self) -> None:
        """There are no folders."""

    def remove_temporary(self) -> None:
        """There is none."""

    def sweep(self) -> None:
        """Nothing to do: one PUT leaves nothing behind."""


def answer_of(error: BaseException) -> tuple[int, str]:
    """HTTP status and error code of what the store answered; (0, '') if it did not."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status), str(response.get("Error", {}).get("Code", ""))
    number = str(getattr(error, "status", "") or getattr(error, "code", ""))  # aiohttp, gcsfs
    return int(number) if number.isdigit() else 0, ""


def is_missing(error: BaseException) -> bool:
    """No such file, in a place that is there."""
    return isinstance(error, FileNotFoundError | NotADirectoryError) and answer_of(error)[1] != "NoSuchBucket"


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    status, code = answer_of(error)
    if status:
        return status in TRANSIENT_STATUSES or code in TRANSIENT_CODES
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & TRANSIENT_CLASSES) or getattr(error, "errno", None) in TRANSIENT_ERRNOS


def explain(error: BaseException) -> str:
    """What is wrong and what to do, for errors that stay."""
    status, code = answer_of(error)
    key = os.environ.get("AWS_ACCESS_KEY_ID", "")
    shown = f"the key {key[:4]}…{key[-2:]}" if key else "the default credentials"
    if code in EXPLAINED_CODES:
        return EXPLAINED_CODES[code].format(key=shown)
    if status in (401, 403):
        return f"access denied for {shown}. It needs {PERMISSIONS} there. The store said: {text_of(error)}"
    if "Credentials" in type(error).__name__:
        return "no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, or an instance role."
    explanation = EXPLAINED_ERRNOS.get(getattr(error, "errno", None) or 0)
    return explanation.format(user=os.geteuid()) if explanation else text_of(error)


def text_of(error: BaseException) -> str:
    status, code = answer_of(error)
    answer = f" (HTTP {status} {code})" if status else ""
    return f"{type(error).__name__}: {error}{answer}"
