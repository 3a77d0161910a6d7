"""Where the files of a model lie, whether they can be rendered from, and the digest of their content.

The planner calls `locate`, which needs tokenizers and configs only; an actor calls `verify`, which needs the weights
and proves that they are those the planner saw. The digest is sha256 over (name, sha256) of the files that make up the
pipeline, so a local copy and the hub's snapshot of it have the same one. Knows file names and JSON, and nothing of
tensors: imports no torch, no diffusers, no transformers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batchgen.errors import Refusals, Refused
from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.run.found_model import FoundModel
from batchgen.storage.mirror import mirror
from batchgen.weights.carried import TRANSFORMERS, assemble, find
from batchgen.weights.digests import digest_of
from batchgen.weights.parts import COMPONENTS, checked, parts_of
from batchgen.weights.singlefile import Origin, absolute_path, dropped, is_file, is_needed, name_of, resolve, spared
from batchgen.weights.spec import ModelSpec
from batchgen.words import redact

FAKE_DIGEST = hashlib.sha256(b"batchgen fake renderer 1").hexdigest()
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def locate(model: Model, *, look_only: bool = False) -> FoundModel:
    """Find a model and its digest without loading weights. Raises Refused with everything that is wrong with it.

    look_only: nothing will be rendered, so that a preset's own weights may be out of reach; `unseen` then says why.
    """
    if model.preset == "fake":
        return FoundModel("fake", None, FAKE_DIGEST, DEMO_CHECKPOINT)
    return locate_single(model, look_only) if is_needed(model) else whole(model, look_only=look_only)


def whole(model: Model, without: Collection[str] = (), *, look_only: bool = False) -> FoundModel:
    """Find a model's directory. without: parts that are not read from it and may be missing. Raises Refused."""
    name = model.mirror or model.pretrained_model_name_or_path or model.defaults.pretrained_model_name_or_path
    if "://" in name:
        directory = mirror(name, parts_of(model.engine).is_kept)
        return FoundModel(name, None, digest_of(checked(directory, without, model.engine)), directory)
    directory = Path(name).expanduser()
    if directory.is_dir():
        if model.revision is not None:
            raise Refused(f"model.revision {model.revision} is of the hub, but {name} is a directory: leave it out.")
        directory = directory.resolve()
        return FoundModel(str(directory), None, digest_of(checked(directory, without, model.engine)), directory)
    if not HUB_ID.fullmatch(name) or name.startswith((".", "~")):
        raise Refused(
            f"The model directory {redact(name)} does not exist. Write a directory, its URL or a Hugging Face id "
            "(owner/name)."
        )
    from batchgen.weights.hub import OutOfReach, locate_on_hub  # slow to import, and only needed here

    try:
        return locate_on_hub(name, model.revision, without, model.engine)
    except OutOfReach as why:
        if not look_only or model.preset not in TRANSFORMERS or name != model.defaults.pretrained_model_name_or_path:
            raise
        return _carried(model, name, without, why.problems[0].message)


def _carried(model: Model, name: str, without: Collection[str], unseen: str) -> FoundModel:
    """What batchgen itself knows of a preset's weights: configs and tokenizers."""
    parts = [part for part in COMPONENTS if part not in without]
    directory = assemble(find(model.model_copy(update={"config": None}), None, parts, dropped(model)))
    return FoundModel(name, None, "", directory, unseen=unseen)


@dataclass(frozen=True, slots=True)
class Verified:
    """The weights that a plan means, on this machine. directory: what is not in single files, as diffusers reads it.

    origins: where the tensors of each component are that a single file brings. dropped: left out by the job.
    """

    directory: Path
    origins: Mapping[str, Origin] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()


def verify(spec: ModelSpec) -> Verified:
    """The weights that the plan means, downloaded if need be. Raises Refused if they are others."""
    if is_needed(spec.model):
        return verify_single(spec)
    directory = fetched(spec)
    digest = digest_of(checked(directory, (), spec.model.engine))
    if digest != spec.digest:
        raise Refused(
            f"The weights in {directory} are not those of the plan: digest {digest[:12]}, planned {spec.digest[:12]}. "
            "Restore the files, or plan into another output directory."
        )
    return Verified(directory)


def fetched(spec: ModelSpec, without: Collection[str] = ()) -> Path:
    """A model's directory on this machine, downloaded if need be, but for the parts in without."""
    directory = Path(spec.path)
    if "://" in spec.path:
        directory = mirror(spec.path, parts_of(spec.model.engine).is_kept)
    elif spec.revision is not None:
        from batchgen.weights.hub import download  # as above

        directory = download(spec.path, spec.revision, without, spec.model.engine)
    elif spec.model.preset == "demo" and not directory.is_dir():
        directory = DEMO_CHECKPOINT  # this machine has batchgen, and so the checkpoint, at another place
    if not directory.is_dir():
        raise Refused(f"The model directory {directory} does not exist on this machine: use a path all machines share.")
    return directory


def locate_single(model: Model, look_only: bool) -> FoundModel:
    """As locate(). Raises Refused with everything that is wrong with directory, files and configs."""
    refusals = Refusals()
    name, base = name_of(model), None
    if not is_file(name):
        with refusals.gather():
            base = whole(model, spared(model), look_only=look_only)
    elif model.revision is not None:
        refusals.add(Refused(f"model.revision {model.revision} is of the hub, but {name} is a file: leave it out."))
    directory = base.tokenizers if base is not None else None
    with refusals.gather():
        found = resolve(model, name, directory, base.digest if base is not None else "")
    refusals.raise_any()
    path, revision = (base.path, base.revision) if base is not None else (absolute_path(name), None)
    unseen = base.unseen if base is not None else ""
    return FoundModel(
        path, revision, found.digest, found.directory, files=found.files, unseen=unseen, left_out=found.left_out
    )


def verify_single(spec: ModelSpec) -> Verified:
    """The files on this machine. Raises Refused if they are not those of the plan."""
    if is_file(spec.path):
        found = resolve(spec.model, spec.path, None, "")
    else:
        base = fetched(spec, spared(spec.model))
        found = resolve(spec.model, spec.path, base, digest_of(checked(base, spared(spec.model))))
    if found.digest != spec.digest:
        listed = ", ".join(f"{name} {sha256[:10]}" for name, sha256 in found.files.items())
        raise Refused(
            f"The weights are not those of the plan: digest {found.digest[:12]}, planned {spec.digest[:12]} (files, by "
            f"sha256: {listed or 'none'}). Restore the files, or plan into another output directory."
        )
    return Verified(found.directory, found.origins, dropped(spec.model))
