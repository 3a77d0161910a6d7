"""sha256 of files, of large ones once; the digest of a pipeline is that over the names and sha256 of its files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchgen.storage.mirror import cache_folder

SHA256 = re.compile(r"[0-9a-f]{64}")
CACHED_FROM = 1 << 20  # bytes: smaller files are hashed faster than looked up
RACY_NS = 2_000_000_000  # a file this fresh may change again within its timestamp's grain


def digest_of(files: Mapping[str, Path]) -> str:
    """sha256 over the sorted (name, sha256 of the content) of a pipeline's files."""
    return combine(hash_all(files))


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def combine(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name}\0{hashes[name]}\n" for name in sorted(hashes)).encode()).hexdigest()


def hash_all(files: Mapping[str, Path]) -> dict[str, str]:
    cache = _HashCache()
    hashes = {name: _blob_sha256(file) or cache.sha256(file) for name, file in files.items()}
    cache.save()
    return hashes


def _blob_sha256(file: Path) -> str | None:
    """A file of the hub's cache is a link to a blob; the blobs of large files are named by their sha256."""
    target = file.resolve() if file.is_symlink() else None
    return target.name if target and target.parent.name == "blobs" and SHA256.fullmatch(target.name) else None


class _HashCache:
    """sha256 of large files by (path, size, mtime, inode), in one JSON. Broken or read-only, it is only slower."""

    def __init__(self) -> None:
        self.path = cache_folder() / "sha256.json"
        self.new: dict[str, str] = {}
        self.known = self._read()

    def _read(self) -> dict[str, str]:
        found = read_json(self.path)
        if not isinstance(found, dict):
            return {}
        return {key: sha for key, sha in found.items() if isinstance(sha, str) and SHA256.fullmatch(sha)}

    def sha256(self, file: Path) -> str:
        stat = file.stat()
        key = f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        if key in self.known:
            return self.known[key]
        with file.open("rb") as stream:
            sha = hashlib.file_digest(stream, "sha256").hexdigest()
        if stat.st_size >= CACHED_FROM and time.time_ns() - stat.st_mtime_ns > RACY_NS:
            self.new[key] = sha
        return sha

    def save(self) -> None:
        if not self.new:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent)
            with os.fdopen(handle, "w") as stream:
                json.dump(self._read() | self.new, stream, indent=1)
            os.replace(temporary, self.path)


def read_json(file: Path) -> Any:
    """Parsed JSON, or None where there is none to be had."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
