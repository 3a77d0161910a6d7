"""Which files of a directory make up its pipeline, and what keeps it from being rendered: SD3's way and any other.

What an SD3 pipeline consists of stands here; what another one does, its own model_index.json says. Knows names and
JSON; opens nothing, imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from batchgen.errors import Problem, Refused
from batchgen.job import pipelines
from batchgen.job.signature import is_own_module
from batchgen.weights import headers
from batchgen.weights.digests import read_json

PIPELINE = "StableDiffusion3Pipeline"
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
WEIGHTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
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
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# Another precision of the same weights ('model.fp16.safetensors'), which loading without variant= never reads.
VARIANTS = ("fp16", "fp32", "bf16", "fp8", "non_ema")
VARIANT = re.compile(rf"\.({'|'.join(VARIANTS)})[.-]")


def layout_in(engine: str, directory: Path | None = None) -> Layout:
    """The layout of a directory; without one, of any that this engine takes."""
    return layout_of(engine, read_json(directory / "model_index.json") if directory else None)


def checked(directory: Path, without: Collection[str] = (), engine: str = "batchgen") -> dict[str, Path]:
    """The pipeline's files, name → path, but for the parts in without. Raises Refused with all its problems."""
    layout = layout_in(engine, directory)
    names = {file.name: file for file in directory.glob("*") if file.is_file()}
    for part in layout.components:
        inside = (directory / part).rglob("*") if part not in without else ()
        names |= {f.relative_to(directory).as_posix(): f for f in inside if f.is_file()}
    texts = {name: read_json(file) for name, file in names.items() if layout.is_examined(name)}
    problems = layout.examine(names, texts, without)
    kept = {name: file for name, file in names.items() if layout.is_kept(name)}
    problems += [f"{name} {found}" for name, file in sorted(kept.items()) if (found := _broken_weights(file))]
    if problems:
        raise Refused([Problem(problem, str(directory)) for problem in problems])
    return kept


def _broken_weights(file: Path) -> str:
    return headers.broken(file) if file.suffix == ".safetensors" else ""


def is_kept(name: str) -> bool:
    """Is this file part of the pipeline? Readme, pictures, single-file weights and other precisions are not."""
    if name == "model_index.json":
        return True
    path = PurePosixPath(name)
    return path.parts[0] in COMPONENTS and len(path.parts) > 1 and name.endswith(KEPT) and not VARIANT.search(path.name)


def is_examined(name: str) -> bool:
    """Does `examine` need to know what this file says?"""
    return name in ("model_index.json", SCHEDULER_CONFIG) or name.endswith(".safetensors.index.json")


def examine(names: Collection[str], texts: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
    """Everything that keeps a directory from being an SD3 pipeline of safetensors. texts: name → parsed JSON."""
    if "model_index.json" not in names:
        return [f"not a diffusers directory, model_index.json is missing: {_hint_convert()}"]
    index = texts.get("model_index.json")
    if not isinstance(index, dict) or index.get("_class_name") != PIPELINE:
        found = index.get("_class_name") if isinstance(index, dict) else "unreadable JSON"
        return [
            f"model_index.json says {found}, batchgen renders with {PIPELINE}: choose a Stable Diffusion 3 model, or "
            "write model.preset: diffusers, which renders other models through their own pipeline."
        ]
    code = sorted(name for name in names if name.endswith(".py"))
    problems = [f"{name} is Python code, and batchgen never runs code from a model: remove it." for name in code]
    for part in (part for part in COMPONENTS if part not in without):
        inside = sorted(name for name in names if name.startswith(part + "/"))
        problems += _examine_sd3_part(part, index.get(part), inside, texts)
    return problems


def _examine_sd3_part(part: str, entry: Any, names: list[str], texts: Mapping[str, Any]) -> list[str]:
    if not isinstance(entry, list) or None in entry:
        return [f"model_index.json names no {part}: use a complete checkpoint."]
    if entry[-1] not in CLASSES[part] or entry[0] not in ("diffusers", "transformers"):
        return [f"{part} is {'.'.join(map(str, entry))}, batchgen loads {' or '.join(sorted(CLASSES[part]))} only."]
    if not names:
        return [f"the folder {part} is missing: download the model again."]
    if part == "scheduler":
        return _examine_scheduler(texts.get(SCHEDULER_CONFIG))
    return examine_weights(part, names, texts) if part in WEIGHTS else []


def _examine_scheduler(config: Any) -> list[str]:
    if not isinstance(config, dict):
        return [f"{SCHEDULER_CONFIG} is missing or unreadable: download the model again."]
    return [
        f"{SCHEDULER_CONFIG} sets {key}, batchgen samples with a static shift and no added noise: choose another model."
        for key in ("use_dynamic_shifting", "stochastic_sampling", "invert_sigmas")
        if config.get(key)
    ]


def examine_weights(part: str, names: list[str], texts: Mapping[str, Any]) -> list[str]:
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


def longest_side(directory: Path) -> int | None:
    """How many pixels a side may have, by the positions of the transformer; None where its config does not say."""
    config = read_json(directory / "transformer/config.json")
    sizes = [config.get(name) for name in ("pos_embed_max_size", "patch_size")] if isinstance(config, dict) else []
    return math.prod(sizes) * VAE_FACTOR if sizes and all(isinstance(size, int) for size in sizes) else None


def _hint_convert() -> str:
    return "the folder that `hf download owner/name` or `pipe.save_pretrained(folder)` writes."


# Besides safetensors and JSON: merges and vocabularies, SentencePiece, and what tokenizers put around a chat's prompt.
SUFFIXES = (*KEPT, ".jinja")
WITHOUT_WEIGHTS = ("scheduler", "tokenizer", "processor", "extractor")  # as parts of the folder's name


@dataclass(frozen=True, slots=True)
class Layout:
    """wanted: patterns of the files to fetch. The functions: as those of the same names here."""

    components: Sequence[str]
    wanted: Sequence[str]
    is_kept: Callable[[str], bool]
    is_examined: Callable[[str], bool]
    examine: Callable[[Collection[str], Mapping[str, Any], Collection[str]], list[str]]


def layout_of(engine: str, index: Any) -> Layout:
    """index: the parsed model_index.json; None where it is not known yet, and then every folder may be a component."""
    if engine == "batchgen":
        wanted = _patterns(COMPONENTS, KEPT)
        return Layout(COMPONENTS, wanted, is_kept, is_examined, examine)
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
    return inside and name.endswith(SUFFIXES) and not VARIANT.search(path.name)


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
    return examine_weights(part, names, texts)
