"""Where the files of a model lie, whether they can be rendered from, and the digest of their content.

The planner calls `locate`, which needs tokenizers and configs only; an actor calls `verify`, which needs the weights
and proves that they are those the planner saw. The digest is sha256 over (name, sha256) of the files that make up the
pipeline, so a local copy and the hub's snapshot of it have the same one. Knows file names and JSON, and nothing of
tensors: imports no torch, no diffusers, no transformers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

from batchgen.errors import Refused, gather
from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.run.found_model import FoundModel
from batchgen.storage.mirror import mirror
from batchgen.weights import digests
from batchgen.weights.digests import digest_of
from batchgen.weights.parts import checked, layout_in
from batchgen.weights.singlefile import Parts, absolute_path, is_file, is_needed, name_of, resolve, without
from batchgen.weights.spec import ModelSpec
from batchgen.words import redact

FAKE_DIGEST = hashlib.sha256(b"batchgen fake renderer 1").hexdigest()
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def locate(model: Model) -> FoundModel:
    """Find a model and its digest without loading weights. Raises Refused with everything that is wrong with it."""
    if model.preset == "fake":
        return FoundModel("fake", None, FAKE_DIGEST, DEMO_CHECKPOINT)
    return locate_single(model) if is_needed(model) else whole(model)


def whole(model: Model, without: Collection[str] = ()) -> FoundModel:
    """Find a model's directory. without: parts that are not read from it and may be missing. Raises Refused."""
    name = model.mirror or model.pretrained_model_name_or_path or model.defaults.pretrained_model_name_or_path
    if "://" in name:
        directory = mirror(name, layout_in(model.engine).is_kept)
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
    from batchgen.weights.hub import locate_on_hub

    return locate_on_hub(name, model.revision, without, model.engine)


def verify(spec: ModelSpec) -> Path:
    """Directory of the weights that the plan means, downloaded if need be. Raises Refused if they are others."""
    if is_needed(spec.model):
        return verify_single(spec).directory
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
        directory = mirror(spec.path, layout_in(spec.model.engine).is_kept)
    elif spec.revision is not None:
        from batchgen.weights.hub import download

        directory = download(spec.path, spec.revision, without, spec.model.engine)
    elif spec.model.preset == "demo" and not directory.is_dir():
        directory = DEMO_CHECKPOINT  # this machine has batchgen, and so the checkpoint, at another place
    if not directory.is_dir():
        raise Refused(f"The model directory {directory} does not exist on this machine: use a path all machines share.")
    return directory


def locate_single(model: Model) -> FoundModel:
    """As files.locate. Raises Refused with everything that is wrong with directory, files and configs."""
    refusals: list[Refused] = []
    name, base = name_of(model), None
    if not is_file(name):
        base = gather(refusals, lambda: whole(model, without(model)))
    elif model.revision is not None:
        refusals.append(Refused(f"model.revision {model.revision} is of the hub, but {name} is a file: leave it out."))
    directory = base.tokenizers if base is not None else None
    parts = gather(refusals, lambda: resolve(model, name, directory, base.digest if base is not None else ""))
    if refusals or parts is None:
        raise Refused.together(refusals)
    path, revision = (base.path, base.revision) if base is not None else (absolute_path(name), None)
    return FoundModel(path, revision, parts.digest, parts.directory, files=parts.files)


def verify_single(spec: ModelSpec) -> Parts:
    """The files on this machine. Raises Refused if they are not those of the plan."""
    if is_file(spec.path):
        parts = resolve(spec.model, spec.path, None, "")
    else:
        base = fetched(spec, without(spec.model))
        parts = resolve(spec.model, spec.path, base, digests.digest_of(checked(base, without(spec.model))))
    if parts.digest != spec.digest:
        listed = ", ".join(f"{name} {sha256[:10]}" for name, sha256 in parts.files.items())
        raise Refused(
            f"The weights are not those of the plan: digest {parts.digest[:12]}, planned {spec.digest[:12]} (files, by "
            f"sha256: {listed or 'none'}). Restore the files, or plan into another output directory."
        )
    return parts
