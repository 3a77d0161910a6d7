"""A model directory in an object store, copied once to the disk of each machine that needs it.

Knows the store and names of files, not which of them a model consists of. The name of a copy is a hash of what the
store says of its files, so no copy ever changes: weights that take the place of others get a copy of their own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from batchgen.errors import Infrastructure, Refused
from batchgen.storage.backends import Entry
from batchgen.storage.store import Store

CHUNK = 32_000_000  # bytes of one range request


def cache_folder() -> Path:
    """Where this machine keeps what it could fetch or compute again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "batchgen"


def mirror(url: str, belongs: Callable[[str], bool]) -> Path:
    """A local directory with those files of a directory at a URL that belong to the model, by their paths.

    Raises Refused where none is there, Infrastructure where the store or this machine's disk gives up.
    """
    store = Store.open(url)
    files = [entry for entry in store.list() if belongs(entry.path)]
    if not files:
        raise Refused(
            f"{store}: holds no model. Write the folder that `pipe.save_pretrained` wrote, with its model_index.json, "
            "or the URL of one *.safetensors file that is there."
        )
    listing = "".join(f"{entry.path}\0{entry.size}\0{entry.version}\n" for entry in files)
    copy = cache_folder() / "models" / hashlib.sha256(f"{store}\n{listing}".encode()).hexdigest()[:32]
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{copy}.lock"):  # the renderers of one machine begin at the same moment
            if not copy.is_dir():
                _fetch(store, files, copy)
    except OSError as error:
        raise Infrastructure(
            f"{store}: cannot be copied to {copy} ({error.strerror or error}). Make room there, or point "
            "XDG_CACHE_HOME to another disk."
        ) from error
    return copy


def mirror_file(url: str) -> Path:
    """One file at a URL on this machine's disk, copied once. Raises as mirror() does."""
    Store.open(url)  # refuses credentials, also those behind the name
    folder, _, name = url.rpartition("/")
    return mirror(folder, lambda path: path == name) / name


def _fetch(store: Store, files: list[Entry], copy: Path) -> None:
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix="part-") as folder:
        for entry in files:
            target = Path(folder, "model", entry.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            with store.open_file(entry.path) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
        os.replace(Path(folder, "model"), copy)
