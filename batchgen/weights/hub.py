"""Models on the Hugging Face hub: which commit, which files, and what to type when the hub does not answer.

The planner fetches tokenizers and configs only and takes the weights' sha256 from the hub's metadata; without a network
it takes both from the hub's cache, whose blobs of large files are named by their sha256. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HFValidationError,
    HTTPError,  # of requests, httpx or httpx2: what this version of the hub talks with
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from batchgen.errors import Infrastructure, Problem, Refused
from batchgen.run.found_model import FoundModel
from batchgen.weights.digests import combine, digest_of, hash_all, read_json
from batchgen.weights.parts import VARIANTS, Parts, checked, parts_of


class OutOfReach(Refused):
    """Neither the hub, as it is reached from here, nor its cache has the whole model. Elsewhere it may be there."""


UNWANTED = [f"*.{variant}{mark}*" for variant in VARIANTS for mark in ".-"]


def locate_on_hub(
    name: str, revision: str | None, without: Collection[str] = (), engine: str = "batchgen"
) -> FoundModel:
    """Resolve a hub id to a commit and a digest. without: parts that are not needed.

    Raises OutOfReach where neither the hub nor its cache has the model, Refused where it is not as it should be.
    """
    try:
        return _ask_hub(name, revision, without, engine)
    except (HTTPError, OSError, HFValidationError) as error:
        reason = _explain(error, name, revision)
        kind = Refused if isinstance(error, RevisionNotFoundError | HFValidationError) else OutOfReach
    try:
        found = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(parts_of(engine).wanted),
            ignore_patterns=unwanted(without),
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        raise kind(reason) from None
    directory = Path(found)
    try:
        digest = digest_of(checked(directory, without, engine))
    except Refused as refused:
        raise kind([Problem(reason), *refused.problems]) from None
    return FoundModel(name, directory.name, digest, directory)


def unwanted(without: Collection[str]) -> list[str]:
    return [*UNWANTED, *(f"{part}/*" for part in without)]


def download(name: str, commit: str, without: Collection[str] = (), engine: str = "batchgen") -> Path:
    """Directory with all files of a pipeline, but for the parts in without.

    Raises Refused (no access) or Infrastructure (no network).
    """
    try:
        wanted = list(_parts(name, commit, engine).wanted)
        return Path(snapshot_download(name, revision=commit, allow_patterns=wanted, ignore_patterns=unwanted(without)))
    except RepositoryNotFoundError as error:  # gated ones too
        raise Refused(_explain(error, name, commit)) from None
    except (HTTPError, OSError) as error:
        raise Infrastructure(_explain(error, name, commit)) from error


def _parts(name: str, commit: str | None, engine: str) -> Parts:
    """Of another model than SD3, model_index.json must be there to say which of the files are its own."""
    if engine == "batchgen":
        return parts_of(engine)
    folder = snapshot_download(name, revision=commit, allow_patterns=["model_index.json"])
    return parts_of(engine, read_json(Path(folder) / "model_index.json"))


def _ask_hub(name: str, revision: str | None, without: Collection[str], engine: str) -> FoundModel:
    """Metadata of all files, content of the small ones."""
    info = HfApi().model_info(name, revision=revision, files_metadata=True)
    parts = _parts(name, info.sha, engine)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    siblings = {file: sibling for file, sibling in siblings.items() if file.partition("/")[0] not in without}
    kept = {file: sibling for file, sibling in siblings.items() if parts.is_kept(file)}
    hashes = {file: sibling.lfs.sha256 for file, sibling in kept.items() if sibling.lfs is not None}
    small = [file for file in kept if not (file in hashes and file.endswith(".safetensors"))]
    directory = Path(snapshot_download(name, revision=info.sha, allow_patterns=small or ["model_index.json"]))
    texts = {file: read_json(directory / file) for file in small if parts.is_examined(file)}
    code_is_never_fetched = [file for file in siblings if not file.endswith(".py")]
    if problems := parts.examine(code_is_never_fetched, texts, without):
        raise Refused([Problem(problem, name) for problem in problems])
    rest = {file: directory / file for file in small if file not in hashes}
    return FoundModel(name, info.sha, combine(hashes | hash_all(rest)), directory)


def _explain(error: Exception, name: str, revision: str | None) -> str:
    wanted = f"{name} at revision {revision}" if revision else name
    fetch = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    if isinstance(error, GatedRepoError):
        return f"{name} is gated: accept its terms at https://huggingface.co/{name}, then run `hf auth login`."
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {revision}: write a branch, a tag or a commit of it, or leave revision out."
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return (
            f"{name} is neither a directory here nor a model on the hub: correct model.pretrained_model_name_or_path, "
            "or run `hf auth login` if the model is private."
        )
    return (
        f"{name} is no directory here, the hub cannot be reached ({type(error).__name__}), and its cache does not hold "
        f"all of {wanted}: run `{fetch}` where there is a network (HF_HUB_OFFLINE unset), or write a local directory."
    )
