"""Weights in single files, as ComfyUI keeps them: which file has which component, whether it fits, and the digest.

A checkpoint (`model.diffusion_model.*`, `first_stage_model.*`, perhaps `text_encoders.*`), encoders of their own, or
both beside a diffusers directory. Reads headers, never tensors, and imports no torch: `engines.sd3.single_files` loads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from batchgen.errors import Problem, Refusals, Refused
from batchgen.job import TEXT_ENCODERS, Model
from batchgen.storage.mirror import mirror_file
from batchgen.weights import headers
from batchgen.weights.carried import Architecture, assemble, contents, find
from batchgen.weights.contents import NAMES, find_prefix, misfit, optional, said_to_be
from batchgen.weights.digests import combine, hash_all, sha256_of
from batchgen.weights.headers import Tensor
from batchgen.weights.parts import COMPONENTS
from batchgen.words import redact

CHECKPOINT = "pretrained_model_name_or_path"
SETTINGS = (*TEXT_ENCODERS, "vae")  # of the job, each a file or 'auto'
USUAL = {
    "text_encoder": "clip_l.safetensors",
    "text_encoder_2": "clip_g.safetensors",
    "text_encoder_3": "t5xxl_fp16.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
T5 = ("text_encoder_3", "tokenizer_3")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a component's tensors are: those of a file whose names begin with prefix. setting: which says so.

    header: all that the file holds, so that it is read once. left_out: tensors, without the prefix, that Stability's
    code and ComfyUI do not read: CLIP-L's projection, which their pooled embedding does without.
    """

    setting: str
    file: Path
    prefix: str
    header: Mapping[str, Tensor]
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Assembled:
    """A model of single files. directory: all but their weights, in diffusers' layout. files: setting → sha256."""

    directory: Path
    origins: Mapping[str, Origin]
    digest: str
    files: Mapping[str, str]

    @property
    def left_out(self) -> tuple[str, ...]:
        """For people."""
        return tuple(f"{name} of {one.file}" for one in self.origins.values() for name in sorted(one.left_out))


def is_needed(model: Model) -> bool:
    """Is any part of the model a single file, or left out?"""
    chosen = any(getattr(model, name) != "auto" for name in SETTINGS)
    return model.preset != "fake" and (chosen or model.config is not None or is_file(name_of(model)))


def name_of(model: Model) -> str:
    return model.pretrained_model_name_or_path or model.defaults.pretrained_model_name_or_path


def is_file(name: str) -> bool:
    """A name that ends like weights means a file, so that a typing error in it is explained as one."""
    return name.endswith(".safetensors") or ("://" not in name and Path(name).expanduser().is_file())


def absolute(model: Model) -> Model:
    """The same model for renderers, whose working directory may be another one."""
    paths = {name: getattr(model, name) for name in (*SETTINGS, "config")}
    local = {name: path for name, path in paths.items() if path and path != "auto" and "://" not in path}
    return model.model_copy(update={name: os.path.abspath(os.path.expanduser(path)) for name, path in local.items()})


def spared(model: Model) -> frozenset[str]:
    """What a model's directory need not have, and is not read from it."""
    return dropped(model) | {name for name in SETTINGS if getattr(model, name) != "auto"}


def dropped(model: Model) -> frozenset[str]:
    """Parts that the job does without."""
    return frozenset(T5 if model.text_encoder_3 is None else ())


def resolve(model: Model, name: str, base: Path | None, base_digest: str) -> Assembled:
    """Find, check and hash everything. base: directory of what is no single file, if there is one."""
    refusals = Refusals()
    origins = _origins(model, name, refusals)
    gone = dropped(model)
    beside = base is not None or not is_file(name)
    missing = [part for part in COMPONENTS if part not in gone and (part in origins or not beside)]
    if beside and not origins and model.config is not None:
        refusals.add(Refused("model.config goes with single files; a directory has its own configs: leave it out."))
    with refusals.gather():
        found = find(model, base, missing, gone)
        for component, origin in [*origins.items()]:
            with refusals.gather():
                _check(component, origin, found, model)
                unread = {
                    name
                    for name in optional(component, found.config(component))
                    if origin.prefix + name in origin.header
                }
                origins[component] = replace(origin, left_out=frozenset(unread))
    refusals.raise_any()
    hashes = hash_all({origin.setting: origin.file for origin in origins.values()})
    texts = {name: sha256_of(data) for name, data in contents(found).items()}
    weights = {f"{component} in one file": hashes[origin.setting] for component, origin in origins.items()}
    digest = combine(texts | weights | ({"directory": base_digest} if base_digest else {}))
    return Assembled(assemble(found), origins, digest, hashes)


def _origins(model: Model, name: str, refusals: Refusals) -> dict[str, Origin]:
    """Component → where its tensors are, of those that are in single files. Adds to refusals what is not found."""
    found: dict[str, Origin] = {}
    if is_file(name):
        with refusals.gather():
            found |= _in_checkpoint(model, local(name, CHECKPOINT))
    for setting in SETTINGS:
        path = getattr(model, setting)
        if path not in ("auto", None):
            with refusals.gather():
                found[setting] = _alone(setting, local(path, setting))
    return found


def _in_checkpoint(model: Model, file: Path) -> dict[str, Origin]:
    """What a checkpoint file brings. Raises Refused with all that it should have and has not."""
    tensors = read(file, CHECKPOINT)
    if find_prefix("transformer", tensors) is None:
        raise Refused(
            f"model.{CHECKPOINT} {file}: is {said_to_be(tensors)}. Write the file of a Stable Diffusion 3 or 3.5 model "
            "(sd3.5_medium.safetensors)."
        )
    found, problems = {}, []
    for component in ("transformer", *(name for name in SETTINGS if getattr(model, name) == "auto")):
        prefix = find_prefix(component, tensors, checkpoint=True)
        if prefix is not None:
            found[component] = Origin(CHECKPOINT, file, prefix, tensors)
        else:
            or_none = ", or null to render without it" if component == "text_encoder_3" else ""
            problems.append(
                f"model.{CHECKPOINT} {file}: holds no {NAMES[component]}. Write model.{component}: "
                f"DIRECTORY/{USUAL[component]}{or_none}."
            )
    if problems:
        raise Refused([Problem(problem) for problem in problems])
    return found


def _alone(component: str, file: Path) -> Origin:
    tensors = read(file, component)
    prefix = find_prefix(component, tensors)
    if prefix is None:
        raise Refused(_wrong(component, file, tensors))
    return Origin(component, file, prefix, tensors)


def _check(component: str, origin: Origin, found: Architecture, model: Model) -> None:
    """Raises Refused where the file's tensors are not those of the config."""
    tensors, config = origin.header, found.config(component)
    try:
        problem = misfit(component, config, tensors, origin.prefix)
    except (KeyError, TypeError) as error:
        where = found.parts[component]
        raise Refused(f"{where}/config.json: does not describe {NAMES[component]} ({error} is not there).") from None
    if problem and origin.setting != CHECKPOINT:
        raise Refused(
            f"{_wrong(component, origin.file, tensors)} Compared with {model.config or model.preset}: {problem}"
        )
    if problem:
        raise Refused(
            f"model.{origin.setting} {origin.file}: is {said_to_be(tensors)}, and its {NAMES[component]} is not that "
            f"of {model.config or model.preset}: {problem} Choose the preset of this file, or write its model.config."
        )


def _wrong(component: str, file: Path, tensors: Mapping[str, Tensor]) -> str:
    wanted = f"{NAMES[component]} ({USUAL[component]})"
    return f"model.{component} {file}: is {said_to_be(tensors)}. Write the file of {wanted}."


def local(path: str, setting: str) -> Path:
    """A file on this machine; one at a URL is copied here. Raises Refused where there is none."""
    if "://" in path:
        return mirror_file(path)
    file = Path(path).expanduser()
    if not file.is_file():
        hint = f" The folder has {_beside(file)}." if file.parent.is_dir() else ""
        kind = "is a directory, write the file in it." if file.is_dir() else f"does not exist.{hint}"
        raise Refused(f"model.{setting} {redact(path)}: {kind}")
    if file.suffix != ".safetensors":
        raise Refused(f"model.{setting} {redact(path)}: write a *.safetensors file.")
    return file


def _beside(file: Path) -> str:
    names = sorted(found.name for found in file.parent.glob("*.safetensors"))
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no *.safetensors"


def read(file: Path, setting: str) -> Mapping[str, Tensor]:
    try:
        return headers.read(file)
    except ValueError as error:
        raise Refused(f"model.{setting} {file}: {error}") from None


def absolute_path(name: str) -> str:
    return name if "://" in name else os.path.abspath(os.path.expanduser(name))
