"""Which files of a directory make up its pipeline, and what keeps it from being rendered: SD3's and any other.

What an SD3 pipeline consists of stands here; what another one does, its own model_index.json says. Knows names, JSON
and whether a safetensors file is whole; not where a directory comes from. Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from batchgen.errors import Problem, Refused
from batchgen.job import PICKLES, TEXT_ENCODERS
from batchgen.job.pipelines import SD3, complaints
from batchgen.job.signature import is_own_module
from batchgen.weights import headers
from batchgen.weights.digests import read_json

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
WEIGHTS = ("transformer", "vae", *TEXT_ENCODERS)
COMPONENTS = ("scheduler", *TOKENIZERS, *WEIGHTS)
CLASSES = {  # the classes that StableDiffusion3Pipeline of diffusers 0.42.1 declares; T5TokenizerFast is the older name
    "scheduler": {"FlowMatchEulerDiscreteScheduler"},
    "tokenizer": {"CLIPTokenizer"},
    "tokenizer_2": {"CLIPTokenizer"},
    "tokenizer_3": {"T5Tokenizer", "T5TokenizerFast"},
    "transformer": {"SD3Transformer2DModel"},
    "vae": {"AutoencoderKL"},
    "text_encoder": {"CLIPTextModelWithProjection"},
    "text_encoder_2": {"CLIPTextModelWithProjection"},
    "text_encoder_3": {"T5EncoderModel"},
}

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
VAE_FACTOR = 8  # pixels a side that a latent stands for
KEPT = (".json", ".txt", ".model", ".safetensors")
# Besides safetensors and JSON: merges and vocabularies, SentencePiece, and what tokenizers put around a chat's prompt.
SUFFIXES = (*KEPT, ".jinja")
WITHOUT_WEIGHTS = ("scheduler", "tokenizer", "processor", "extractor")  # as parts of the folder's name
# Another precision of the same weights ('model.fp16.safetensors'), which loading without variant= never reads.
VARIANTS = ("fp16", "fp32", "bf16", "fp8", "non_ema")
VARIANT = re.compile(rf"\.({'|'.join(VARIANTS)})[.-]")
THE_FOLDER = "the folder that `hf download owner/name` or `pipe.save_pretrained(folder)` writes."


class Parts(Protocol):
    """The files of a pipeline among those of a directory, by relative name.

    components: folders that it loads. wanted: patterns of the files to fetch.
    """

    components: Sequence[str]
    wanted: Sequence[str]

    def is_kept(self, name: str) -> bool:
        """Is this file part of the pipeline? Readme, pictures, single-file weights and other precisions are not."""

    def is_examined(self, name: str) -> bool:
        """Does `examine` need to know what this file says?"""

    def examine(self, names: Collection[str], texts: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
        """Everything that keeps a directory with these files from being rendered. texts: name → parsed JSON."""


class Sd3Parts:
    """Of Stable Diffusion 3, whose components are known."""

    components: Sequence[str] = COMPONENTS

    def __init__(self) -> None:
        self.wanted: Sequence[str] = _patterns(COMPONENTS, KEPT)

    def is_kept(self, name: str) -> bool:
        return _is_inside(name, COMPONENTS, KEPT)

    def is_examined(self, name: str) -> bool:
        return name == SCHEDULER_CONFIG or _is_index(name)

    def examine(self, names: Collection[str], texts: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
        if "model_index.json" not in names:
            return [f"not a diffusers directory, model_index.json is missing: {THE_FOLDER}"]
        index = texts.get("model_index.json")
        if not isinstance(index, dict) or index.get("_class_name") != SD3:
            found = index.get("_class_name") if isinstance(index, dict) else "unreadable JSON"
            return [
                f"model_index.json says {found}, batchgen renders with {SD3}: choose a Stable Diffusion 3 model, or "
                "write model.preset: diffusers, which renders other models through their own pipeline."
            ]
        problems = _code(names)
        for part in (part for part in COMPONENTS if part not in without):
            problems += self._examine_part(part, index.get(part), _of_part(part, names), texts)
        return problems

    def _examine_part(self, part: str, entry: Any, names: list[str], texts: Mapping[str, Any]) -> list[str]:
        if not isinstance(entry, list) or None in entry:
            return [f"model_index.json names no {part}: use a complete checkpoint."]
        if entry[-1] not in CLASSES[part] or entry[0] not in ("diffusers", "transformers"):
            return [f"{part} is {'.'.join(map(str, entry))}, batchgen loads {' or '.join(sorted(CLASSES[part]))} only."]
        if not names:
            return [f"the folder {part} is missing: download the model again."]
        if part == "scheduler":
            return _examine_scheduler(texts.get(SCHEDULER_CONFIG))
        return _examine_weights(part, names, texts) if part in WEIGHTS else []


class IndexedParts:
    """Of any pipeline that `engine: diffusers` renders with: the components are those of its model_index.json."""

    def __init__(self, index: Any) -> None:
        """index: model_index.json, parsed; None where it is not known yet, and then every folder may be a component."""
        self.components: Sequence[str] = _components(index)
        self._folders = self.components if isinstance(index, dict) else ("*",)
        self.wanted: Sequence[str] = _patterns(self._folders, SUFFIXES)

    def is_kept(self, name: str) -> bool:
        return _is_inside(name, self._folders, SUFFIXES)

    def is_examined(self, name: str) -> bool:
        return _is_index(name)

    def examine(self, names: Collection[str], texts: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
        if "model_index.json" not in names:
            return [f"not a diffusers directory, model_index.json is missing: write {THE_FOLDER}"]
        index = texts.get("model_index.json")
        if not isinstance(index, dict):
            return ["model_index.json is unreadable JSON: download the model again."]
        problems = complaints(index.get("_class_name")) + _code(names)
        for part in (part for part in _components(index) if part not in without):
            problems += self._examine_part(part, index[part], _of_part(part, names), texts)
        return problems

    def _examine_part(self, part: str, entry: list[Any], names: list[str], texts: Mapping[str, Any]) -> list[str]:
        library, kind = str(entry[0]), ".".join(map(str, entry))
        if library not in ("diffusers", "transformers") and not is_own_module(library):
            return [f"{part} is {kind}, batchgen loads classes of diffusers and transformers only."]
        if not names:
            return [f"the folder {part} is missing: download the model again."]
        if any(word in part for word in WITHOUT_WEIGHTS):
            return []
        return _examine_weights(part, names, texts)


def parts_of(engine: str, index: Any = None) -> Parts:
    """How this engine reads a directory. index: its model_index.json, parsed, where it is known."""
    return Sd3Parts() if engine == "batchgen" else IndexedParts(index)


def checked(directory: Path, without: Collection[str] = (), engine: str = "batchgen") -> dict[str, Path]:
    """The pipeline's files, name → path, but for the parts in without. Raises Refused with all its problems."""
    parts = parts_of(engine, read_json(directory / "model_index.json"))
    names = {file.name: file for file in directory.glob("*") if file.is_file()}
    for part in parts.components:
        inside = (directory / part).rglob("*") if part not in without else ()
        names |= {f.relative_to(directory).as_posix(): f for f in inside if f.is_file()}
    texts = {name: read_json(file) for name, file in names.items() if parts.is_examined(name)}
    problems = parts.examine(names, texts, without)
    kept = {name: file for name, file in names.items() if parts.is_kept(name)}
    problems += [f"{name} {found}" for name, file in sorted(kept.items()) if (found := _broken_weights(file))]
    if problems:
        raise Refused([Problem(problem, str(directory)) for problem in problems])
    return kept


def longest_side(directory: Path) -> int | None:
    """How many pixels a side may have, by the positions of the transformer; None where its config does not say."""
    config = read_json(directory / "transformer/config.json")
    found = [config.get(name) for name in ("pos_embed_max_size", "patch_size")] if isinstance(config, dict) else []
    sizes = [size for size in found if isinstance(size, int)]
    return math.prod(sizes) * VAE_FACTOR if len(sizes) == 2 else None


def _broken_weights(file: Path) -> str:
    return headers.broken(file) if file.suffix == ".safetensors" else ""


def _patterns(folders: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    return ["model_index.json", *(f"{folder}/*{suffix}" for folder in folders for suffix in suffixes)]


def _components(index: Any) -> list[str]:
    """Folders with something in them: entries are [library, class]; [null, null] is a part that was left out."""
    entries = index.items() if isinstance(index, dict) else ()
    return sorted(part for part, entry in entries if isinstance(entry, list) and entry and None not in entry)


def _is_inside(name: str, folders: Collection[str], suffixes: tuple[str, ...]) -> bool:
    """Is it the index, or a file of one of these folders (* stands for all) that is no other precision's?"""
    if name == "model_index.json":
        return True
    path = PurePosixPath(name)
    inside = len(path.parts) > 1 and (path.parts[0] in folders or "*" in folders)
    return inside and name.endswith(suffixes) and not VARIANT.search(path.name)


def _is_index(name: str) -> bool:
    return name == "model_index.json" or name.endswith(".safetensors.index.json")


def _of_part(part: str, names: Collection[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(part + "/"))


def _code(names: Collection[str]) -> list[str]:
    code = sorted(name for name in names if name.endswith(".py"))
    return [f"{name} is Python code, and batchgen never runs code from a model: remove it." for name in code]


def _examine_scheduler(config: Any) -> list[str]:
    if not isinstance(config, dict):
        return [f"{SCHEDULER_CONFIG} is missing or unreadable: download the model again."]
    return [
        f"{SCHEDULER_CONFIG} sets {key}, batchgen samples with a static shift and no added noise: choose another model."
        for key in ("use_dynamic_shifting", "stochastic_sampling", "invert_sigmas")
        if config.get(key)
    ]


def _examine_weights(part: str, names: list[str], texts: Mapping[str, Any]) -> list[str]:
    problems = [] if f"{part}/config.json" in names else [f"{part}/config.json is missing: download the model again."]
    if not any(name.endswith(".safetensors") and not VARIANT.search(PurePosixPath(name).name) for name in names):
        if pickles := [name for name in names if name.endswith(PICKLES)]:
            found = f"has pickled weights only ({pickles[0]}), which can run code: convert them to safetensors."
        else:
            found = "has no *.safetensors: download the model again."
        problems.append(f"{part} {found}")
        return problems
    for name in names:
        if name.endswith(".safetensors.index.json"):
            index = texts.get(name)
            shards = set(index.get("weight_map", {}).values()) if isinstance(index, dict) else set()
            missing = sorted(shard for shard in shards if f"{part}/{shard}" not in names)
            problems += [f"{part}/{shard} is missing but named in {name}: download it." for shard in missing]
    return problems
