"""Configs and tokenizers for weights that come as single files: one diffusers directory, without those weights.

batchgen carries those of SD3 and SD3.5 in configs/, each part once; `model.config` and a model's own directory go
before them. Knows names of files and JSON; imports no torch and no transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import Infrastructure, Problem, Refused
from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.storage.mirror import cache_folder
from batchgen.weights.digests import read_json
from batchgen.weights.parts import COMPONENTS
from batchgen.weights.vocabularies import clip_files, t5_files

CONFIGS = Path(__file__).parent / "configs"
FAMILY = CONFIGS / "sd3"  # what all presets share: encoders, VAE, scheduler, the words of CLIP and T5
TRANSFORMERS = {  # whose transformer/config.json; Turbo has Large's
    "sd3.5-medium": CONFIGS / "sd3.5-medium",
    "sd3.5-large": CONFIGS / "sd3.5-large",
    "sd3.5-large-turbo": CONFIGS / "sd3.5-large",
    "sd3-medium": CONFIGS / "sd3-medium",
}
TEXTS = (".json", ".txt", ".model")
WORDS = {"tokenizer": clip_files, "tokenizer_2": clip_files, "tokenizer_3": t5_files}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Where each part's config or tokenizer is, for parts that no weights directory brings. base: that directory."""

    base: Path | None
    parts: dict[str, Path]
    dropped: frozenset[str]

    def config(self, part: str) -> dict[str, Any]:
        """config.json of a part. Raises Refused where there is none to read."""
        file = self.parts[part] / "config.json"
        found = read_json(file)
        if not isinstance(found, dict):
            raise Refused(f"{file}: is no JSON. Fetch it again, or leave model.config out.")
        return found


def find(model: Model, base: Path | None, missing: Collection[str], dropped: frozenset[str]) -> Architecture:
    """Look for the parts that are missing from base. Raises Refused with all that are nowhere."""
    if model.config is not None and not Path(model.config).expanduser().is_dir():
        raise Refused(
            f"model.config {model.config}: is no directory. Write one in diffusers' layout (transformer/config.json, "
            "tokenizer_3, ...; weights are not needed), or leave it out for the configs that batchgen carries."
        )
    own = [Path(model.config).expanduser()] if model.config is not None else []
    own += [base] if base is not None else []
    carried = [DEMO_CHECKPOINT] if model.preset == "demo" else [TRANSFORMERS[model.preset], FAMILY]
    parts, problems = {}, []
    for part in missing:
        found = [layer / part for layer in (*own, *carried) if _texts(layer / part)]
        if found:
            parts[part] = found[0]
        else:
            problems.append(Problem(f"model.config has no {part}: add its folder, or leave model.config out."))
    if problems:
        raise Refused(problems)
    return Architecture(base, parts, dropped)


def contents(architecture: Architecture) -> dict[str, bytes]:
    """Name → content of the files that stand for the missing parts, and the index of all."""
    found = {
        f"{part}/{file.name}": file.read_bytes()
        for part, folder in architecture.parts.items()
        for file in _texts(folder)
    }
    for part, folder in architecture.parts.items():
        if part in WORDS and folder.parent == FAMILY:
            found |= {f"{part}/{name}": data for name, data in WORDS[part]().items()}
    index = read_json((architecture.base or FAMILY) / "model_index.json") or {}
    carried = read_json(FAMILY / "model_index.json")
    index |= {part: carried[part] for part in architecture.parts}
    index |= {part: [None, None] for part in architecture.dropped}
    return found | {"model_index.json": json.dumps(index, indent=1, sort_keys=True).encode()}


def assemble(architecture: Architecture) -> Path:
    """A directory that diffusers loads all parts from but those whose weights are single files. Written once."""
    written = contents(architecture)
    whole = [part for part in COMPONENTS if part not in architecture.parts and part not in architecture.dropped]
    links = {part: architecture.base.resolve() / part for part in whole} if architecture.base is not None else {}
    said = [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(written.items())]
    name = hashlib.sha256(json.dumps([said, {part: str(link) for part, link in links.items()}]).encode()).hexdigest()
    target = cache_folder() / "configs" / name[:32]
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="part-") as folder:
            _write(Path(folder, "model"), written, links)
            settle(Path(folder, "model"), target)
    except OSError as error:
        raise Infrastructure(
            f"{target}: cannot be written ({error.strerror or error}). Make room there, or point XDG_CACHE_HOME to "
            "another disk."
        ) from error
    return target


def _write(folder: Path, written: dict[str, bytes], links: dict[str, Path]) -> None:
    for name, data in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for part, link in links.items():
        (folder / part).symlink_to(link)


def settle(folder: Path, target: Path) -> None:
    """Move a folder to its place. Another process may have been first; its directory has the same content."""
    try:
        os.rename(folder, target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(folder)


def _texts(folder: Path) -> list[Path]:
    """Files that are no weights, and no list of files of weights."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for file in found if file.suffix in TEXTS and not file.name.endswith(".safetensors.index.json")]
