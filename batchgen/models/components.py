"""Which files of a directory make up its pipeline, and what keeps it from being rendered: SD3's way and any other.

`files.py` knows what an SD3 pipeline consists of; what another one does, its own model_index.json says. Knows names and
JSON; opens nothing, imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from batchgen.models import files, pipelines
from batchgen.models.signature import is_own_module

# Besides safetensors and JSON: merges and vocabularies, SentencePiece, and what tokenizers put around a chat's prompt.
SUFFIXES = (*files.KEPT, ".jinja")
WITHOUT_WEIGHTS = ("scheduler", "tokenizer", "processor", "extractor")  # as parts of the folder's name


@dataclass(frozen=True, slots=True)
class Layout:
    """wanted: patterns of the files to fetch. The functions: as those of the same names in files.py."""

    components: Sequence[str]
    wanted: Sequence[str]
    is_kept: Callable[[str], bool]
    is_examined: Callable[[str], bool]
    examine: Callable[[Collection[str], Mapping[str, Any], Collection[str]], list[str]]


def layout_of(engine: str, index: Any) -> Layout:
    """index: the parsed model_index.json; None where it is not known yet, and then every folder may be a component."""
    if engine == "batchgen":
        wanted = _patterns(files.COMPONENTS, files.KEPT)
        return Layout(files.COMPONENTS, wanted, files.is_kept, files.is_examined, files.examine)
    components = _components(index)
    folders = components if isinstance(index, dict) else ("*",)
    return Layout(
        components=components,
        wanted=_patterns(folders, SUFFIXES),
        is_kept=lambda name: _is_kept(name, folders),
        is_examined=lambda name: name == "model_index.json" or name.endswith(".safetensors.index.json"),
        examine=_examine,
    )


def _patterns(folders: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    return ["model_index.json", *(f"{folder}/*{suffix}" for folder in folders for suffix in suffixes)]


def _components(index: Any) -> list[str]:
    """Folders with something in them: entries are [library, class]; [null, null] is a part that was left out."""
    entries = index.items() if isinstance(index, dict) else ()
    return sorted(part for part, entry in entries if isinstance(entry, list) and entry and None not in entry)


def _is_kept(name: str, folders: Sequence[str]) -> bool:
    if name == "model_index.json":
        return True
    path = PurePosixPath(name)
    inside = len(path.parts) > 1 and (path.parts[0] in folders or "*" in folders)
    return inside and name.endswith(SUFFIXES) and not files.VARIANT.search(path.name)


def _examine(names: Collection[str], texts: Mapping[str, Any], without: Collection[str]) -> list[str]:
    """Everything that keeps a directory from being a pipeline that `engine: diffusers` renders with."""
    if "model_index.json" not in names:
        return [
            "not a diffusers directory, model_index.json is missing: write the folder that `hf download owner/name` "
            "or `pipe.save_pretrained(folder)` writes."
        ]
    index = texts.get("model_index.json")
    if not isinstance(index, dict):
        return ["model_index.json is unreadable JSON: download the model again."]
    problems = pipelines.complaints(index.get("_class_name"))
    code = sorted(name for name in names if name.endswith(".py"))
    problems += [f"{name} is Python code, and batchgen never runs code from a model: remove it." for name in code]
    for part in (part for part in _components(index) if part not in without):
        inside = sorted(name for name in names if name.startswith(part + "/"))
        problems += _examine_part(part, index[part], inside, texts)
    return problems


def _examine_part(part: str, entry: list[Any], names: list[str], texts: Mapping[str, Any]) -> list[str]:
    library = str(entry[0])
    if library not in ("diffusers", "transformers") and not is_own_module(library):
        return [f"{part} is {'.'.join(map(str, entry))}, batchgen loads classes of diffusers and transformers only."]
    if not names:
        return [f"the folder {part} is missing: download the model again."]
    if any(word in part for word in WITHOUT_WEIGHTS):
        return []
    return files.examine_weights(part, names, texts)
