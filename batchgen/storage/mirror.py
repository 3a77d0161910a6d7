"""A model directory in an object store, copied once to the disk of each machine that needs it.

Knows names of files and the store; `weights` says which of them make up a pipeline and what their digest is. A copy is
named by what the store said of its files, so it is never changed: other weights in the same place are another copy.
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
    """Where this machine keeps what can be had again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "batchgen"


def mirror(url: str, wanted: Callable[[str], bool]) -> Path:
    """A local directory with the wanted files of a directory at a URL.

    Raises Refused where none is there, Infrastructure where the store or this machine's disk gives up.
    """
    store = Store.open(url)
    files = [entry for entry in store.list() if wanted(entry.path)]
    if not files:
        raise Refused(
            f"{store}: holds no model. Write the folder that `pipe.save_pretrained` wrote, with its model_index.json, "
            "or the URL of one *.safetensors file that is there."
        )
    said = "".join(f"{entry.path}\0{entry.size}\0{entry.version}\n" for entry in files)
    copy = cache_folder() / "models" / hashlib.sha256(f"{store}\n{said}".encode()).hexdigest()[:32]
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


def _fetch(store: Store, files: list[Entry], copy: Path) -> None:
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix="part-") as folder:
        for entry in files:
            target = Path(folder, "model", entry.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            with store.open_file(entry.path) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
        os.replace(Path(folder, "model"), copy)
