"""The directory of a scorer's model: found here or on the hub, its weights safetensors, its files hashed.

Knows no architecture. Nothing is ever unpickled, and no code that comes with a model is run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
)

from batchgen.errors import Refused
from batchgen.weights.digests import combine, hash_all, read_json

WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
UNWANTED = ["*/*"]  # the same model for other programs: onnx/, original/
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model in a directory of this machine. name: what people call it, in small letters, without its owner."""

    name: str
    directory: Path

    @property
    def config(self) -> dict[str, Any]:
        found = read_json(self.directory / CONFIG)
        return found if isinstance(found, dict) else {}

    @property
    def sha256(self) -> str:
        """Over weights, config and words: what a score depends on."""
        files = {file.name: file for pattern in WANTED for file in self.directory.glob(pattern)}
        return combine(hash_all(files))


def find_model(source: str) -> ModelFiles:
    """source: a directory, or an id on the hub. Raises Refused where no whole model in safetensors is there."""
    directory = Path(source).expanduser()
    if not directory.is_dir():
        directory = _from_hub(source)
    name = re.sub(r"[^a-z0-9._]+", "-", Path(source).name.lower()).strip("-.")
    missing = [pattern for pattern in (CONFIG, "*.safetensors") if not any(directory.glob(pattern))]
    if missing:
        pickled = sorted(file.name for suffix in ("pt", "pth", "bin", "ckpt") for file in directory.glob(f"*.{suffix}"))
        converted = f" {pickled[0]} is no safetensors file: see jobs/convert_scorer.py." if pickled else ""
        raise Refused(f"{source}: is no model of transformers in safetensors (no {', '.join(missing)}).{converted}")
    return ModelFiles(name, directory)


def refuse_without(files: ModelFiles, wanted: Sequence[str], origin: str) -> None:
    """Raises Refused where files are missing beside the weights. origin: whose they are, an id on the hub or words.

    Weights of a tuned model are published without its words often. Those of the hub lie in a cache, where nothing is
    to be added: they are fetched into a directory first.
    """
    missing = [name for name in wanted if not (files.directory / name).exists()]
    if not missing:
        return
    names = " ".join(missing)
    how = f"hf download {origin} {names} --local-dir DIR" if "/" in origin else f"copy them from {origin}"
    raise Refused(
        f"{files.directory}: has weights and no {', '.join(missing)}, without which nobody knows how its pictures and "
        f"words are to be prepared. Put them beside the weights, in a directory DIR of yours: {how}. Then name that "
        "directory: --with SCORER=DIR"
    )


def _from_hub(source: str) -> Path:
    try:
        return Path(snapshot_download(source, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except (HTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise Refused(
            f"{source}: is no directory here, and the hub does not give it ({type(error).__name__}). Run `hf download "
            f"{source}` where there is a network (HF_HUB_OFFLINE unset), or write a local directory."
        ) from None
