"""Where the files of a model lie, whether they can be rendered from, and the digest of their content.

The planner calls `locate`, which needs tokenizers and configs only; an actor calls `verify`, which needs the weights
and proves that they are those the planner saw. The digest is sha256 over (name, sha256) of the files that make up the
pipeline, so a local copy and the hub's snapshot of it have the same one. Knows file names and JSON, and nothing of
tensors: imports no torch, no diffusers, no transformers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from batchgen.config import Model
from batchgen.errors import Problem, Refused
from batchgen.models import headers
from batchgen.models.mirror import cache_folder, mirror
from batchgen.models.presets import DEMO_CHECKPOINT
from batchgen.models.renderer import AdapterFile, ModelSpec
from batchgen.storage import redact

if TYPE_CHECKING:
    from batchgen.models.components import Layout

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
FAKE_DIGEST = hashlib.sha256(b"batchgen fake renderer 1").hexdigest()

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
KEPT = (".json", ".txt", ".model", ".safetensors")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# Another precision of the same weights ('model.fp16.safetensors'), which loading without variant= never reads.
VARIANTS = ("fp16", "fp32", "bf16", "fp8", "non_ema")
VARIANT = re.compile(rf"\.({'|'.join(VARIANTS)})[.-]")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SHA256 = re.compile(r"[0-9a-f]{64}")
CACHED_FROM = 1 << 20  # bytes: smaller files are hashed faster than looked up
RACY_NS = 2_000_000_000  # a file this fresh may change again within its timestamp's grain


@dataclass(frozen=True)
class ModelFiles:
    """What the planner knows of a model: path and revision as in ModelSpec; tokenizers: directory that holds them."""

    path: str
    revision: str | None
    digest: str
    tokenizers: Path
    adapters: Mapping[str, AdapterFile] = field(default_factory=dict)
    refiner: ModelFiles | None = None
    files: Mapping[str, str] = field(default_factory=dict)  # sha256 of each single file, by the setting that names it


def locate(model: Model) -> ModelFiles:
    """Find a model and its digest without loading weights. Raises Refused with everything that is wrong with it."""
    if model.preset == "fake":
        return ModelFiles("fake", None, FAKE_DIGEST, DEMO_CHECKPOINT)
    from batchgen.models import singlefile

    return singlefile.locate(model) if singlefile.is_needed(model) else whole(model)


def whole(model: Model, without: Collection[str] = ()) -> ModelFiles:
    """Find a model's directory. without: parts that are not read from it and may be missing. Raises Refused."""
    name = model.mirror or model.pretrained_model_name_or_path or model.defaults.pretrained_model_name_or_path
    if "://" in name:
        directory = mirror(name, _layout(model.engine).is_kept)
        return ModelFiles(name, None, digest_of(checked(directory, without, model.engine)), directory)
    directory = Path(name).expanduser()
    if directory.is_dir():
        if model.revision is not None:
            raise Refused(f"model.revision {model.revision} is of the hub, but {name} is a directory: leave it out.")
        directory = directory.resolve()
        return ModelFiles(str(directory), None, digest_of(checked(directory, without, model.engine)), directory)
    if not HUB_ID.fullmatch(name) or name.startswith((".", "~")):
        raise Refused(
            f"The model directory {redact(name)} does not exist. Write a directory, its URL or a Hugging Face id "
            "(owner/name)."
        )
    from batchgen.models.hub import locate_on_hub

    return locate_on_hub(name, model.revision, without, model.engine)


def verify(spec: ModelSpec) -> Path:
    """Directory of the weights that the plan means, downloaded if need be. Raises Refused if they are others."""
    from batchgen.models import singlefile

    if singlefile.is_needed(spec.model):
        return singlefile.verify(spec).directory
    directory = fetched(spec)
    digest = digest_of(checked(directory, (), spec.model.engine))
    if digest != spec.digest:
        raise Refused(
            f"The weights in {directory} are not those of the plan: digest {digest[:12]}, planned {spec.digest[:12]}. "
            "Restore the files, or plan into another output directory."
        )
    return directory


def fetched(spec: ModelSpec, without: Collection[str] = ()) -> Path:
    """A model's directory on this machine, downloaded if need be, but for the parts in without."""
    directory = Path(spec.path)
    if "://" in spec.path:
        directory = mirror(spec.path, _layout(spec.model.engine).is_kept)
    elif spec.revision is not None:
        from batchgen.models.hub import download

        directory = download(spec.path, spec.revision, without, spec.model.engine)
    elif spec.model.preset == "demo" and not directory.is_dir():
        directory = DEMO_CHECKPOINT  # this machine has batchgen, and so the checkpoint, at another place
    if not directory.is_dir():
        raise Refused(f"The model directory {directory} does not exist on this machine: use a path all machines share.")
    return directory


def _layout(engine: str, directory: Path | None = None) -> Layout:
    from batchgen.models.components import layout_of

    return layout_of(engine, read_json(directory / "model_index.json") if directory else None)


def checked(directory: Path, without: Collection[str] = (), engine: str = "batchgen") -> dict[str, Path]:
    """The pipeline's files, name → path, but for the parts in without. Raises Refused with all its problems."""
    layout = _layout(engine, directory)
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
        problems += _examine_part(part, index.get(part), inside, texts)
    return problems


def _examine_part(part: str, entry: Any, names: list[str], texts: Mapping[str, Any]) -> list[str]:
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


def _hint_convert() -> str:
    return "the folder that `hf download owner/name` or `pipe.save_pretrained(folder)` writes."
