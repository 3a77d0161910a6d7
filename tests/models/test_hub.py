"""Finding a model in the hub's cache and on a fake hub, with and without a network. Nothing here loads torch."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

from batchgen.errors import Infrastructure, Refused
from batchgen.weights import hub
from batchgen.weights.locate import locate, verify
from tests.models.directories import COMMIT, content, counted, model, own_caches, spec, weights, write
from tests.specs import spec_of

__all__ = ["counted", "own_caches"]  # fixtures


NAME = "owner/model"


def write_hub_cache(root: Path, names: dict[str, bytes]) -> Path:
    """The layout of the hub's cache: blobs named by sha256 (large files) or sha1 (small ones), snapshots of links."""
    repo = root / "models--owner--model"
    snapshot = repo / "snapshots" / COMMIT
    (repo / "refs").mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs/main").write_text(COMMIT)
    for name, data in names.items():
        kind = hashlib.sha256 if name.endswith(".safetensors") else hashlib.sha1
        blob = repo / "blobs" / kind(data).hexdigest()
        blob.write_bytes(data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_offline_the_cache_answers_with_the_digest_of_a_local_copy(tmp_path, offline, counted, revision):
    snapshot = write_hub_cache(tmp_path / "hub", content())
    found = locate(model(NAME, revision=revision))
    assert (found.path, found.revision, found.tokenizers) == (NAME, COMMIT, snapshot)
    assert not [name for name in counted if name.endswith(".safetensors")], "weights were read: the blob's name says it"
    assert found.digest == locate(model(write(tmp_path / "copy"))).digest
    assert verify(spec(NAME, found.digest, COMMIT)).directory == snapshot


def test_offline_without_the_model(tmp_path, offline):
    with pytest.raises(Refused, match=f"`hf download {NAME}` where there is a network"):
        locate(model(NAME))
    with pytest.raises(Refused, match=f"`hf download {NAME} --revision v2`"):
        locate(model(NAME, revision="v2"))
    with pytest.raises(Infrastructure, match="hf download"):
        verify(spec(NAME, "0" * 64, COMMIT))


def test_offline_with_half_of_the_model(tmp_path, offline):
    """A planner's own cache holds tokenizers and configs only: the weights are missing, and so the digest."""
    snapshot = write_hub_cache(tmp_path / "hub", {k: v for k, v in content().items() if "safetensors" not in k})
    with pytest.raises(Refused, match="hf download") as caught:
        locate(model(NAME))
    assert any("transformer has no *.safetensors" in problem.message for problem in caught.value.problems)
    assert snapshot.exists()


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """The two calls that reach the hub, answered from a directory. `served.error` makes the hub answer with it."""
    source = write(tmp_path / "remote", **{"evil.py": b"", "README.md": b"x", "vae/model.fp16.safetensors": b"y"})
    served = SimpleNamespace(error=None, fetched=[], source=source)

    def model_info(self, name, *, revision, files_metadata):
        if served.error:
            raise served.error
        siblings = []
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            sha = hashlib.sha256(file.read_bytes()).hexdigest()
            lfs = SimpleNamespace(sha256=sha) if file.suffix == ".safetensors" else None
            siblings.append(SimpleNamespace(rfilename=file.relative_to(source).as_posix(), lfs=lfs))
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    real = hub.snapshot_download

    def download(name, *, revision, allow_patterns, ignore_patterns=None, local_files_only=False):
        if local_files_only or served.error:
            return real(
                name,
                revision=revision,
                allow_patterns=allow_patterns,
                ignore_patterns=ignore_patterns,
                local_files_only=True,
            )
        served.fetched += allow_patterns
        for file in allow_patterns:
            (tmp_path / "fetched" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, tmp_path / "fetched" / file)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(hub, "snapshot_download", download)
    return served


def test_online_the_planner_fetches_no_weights_and_no_code(tmp_path, fake_hub):
    found = locate(model(NAME))
    assert (found.path, found.revision) == (NAME, COMMIT)
    assert (found.tokenizers / "tokenizer_3/tokenizer.json").exists()
    assert not [name for name in fake_hub.fetched if name.endswith((".safetensors", ".py", ".md"))]
    assert found.digest == locate(model(write(tmp_path / "copy"))).digest


def without_t5() -> dict[str, bytes | None]:
    return {name: None for name in content() if name.startswith(("text_encoder_3/", "tokenizer_3/"))}


def test_online_what_the_job_does_without_is_not_fetched(tmp_path, fake_hub):
    found = locate(model(NAME, text_encoder_3=None))
    assert not [name for name in fake_hub.fetched if name.startswith(("text_encoder_3", "tokenizer_3"))]
    assert not (found.tokenizers / "tokenizer_3").exists()
    copy = write(tmp_path / "copy", **without_t5())
    assert found.digest == locate(model(copy, text_encoder_3=None)).digest


def test_offline_a_cache_without_t5_serves_a_job_without_t5(tmp_path, offline):
    write_hub_cache(tmp_path / "hub", {name: data for name, data in content().items() if name not in without_t5()})
    found = locate(model(NAME, text_encoder_3=None))
    planned = spec_of(path=NAME, revision=COMMIT, digest=found.digest, preset="sd3.5-medium", text_encoder_3=None)
    directory = verify(planned).directory
    assert (directory / "transformer/model.safetensors").read_bytes() == weights("transformer")
    with pytest.raises(Refused, match="not those of the plan"):
        verify(spec_of(path=NAME, revision=COMMIT, digest="0" * 64, preset="sd3.5-medium", text_encoder_3=None))


def test_online_an_incomplete_model_is_refused(fake_hub):
    (fake_hub.source / "vae/model.safetensors").unlink()
    with pytest.raises(Refused, match=r"owner/model: vae has no \*\.safetensors"):
        locate(model(NAME))


def answer(kind, status):
    import httpx2

    return kind("no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co")))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lambda: answer(GatedRepoError, 403), "is gated: accept its terms at https://huggingface.co/owner/model"),
        (lambda: answer(RepositoryNotFoundError, 404), "neither a directory here nor a model on the hub"),
        (lambda: answer(RevisionNotFoundError, 404), "has no revision v9"),
        (lambda: OfflineModeIsEnabled("offline"), "the hub cannot be reached"),
        (lambda: ConnectionError("no route"), "the hub cannot be reached"),
    ],
)
def test_each_refusal_of_the_hub_says_what_to_do(fake_hub, error, said):
    fake_hub.error = error()
    with pytest.raises(Refused, match=said):
        locate(model(NAME, revision="v9"))


def test_a_gated_model_in_the_cache_is_good_enough(tmp_path, fake_hub):
    write_hub_cache(tmp_path / "hub", content())
    fake_hub.error = answer(GatedRepoError, 403)
    assert locate(model(NAME)).revision == COMMIT
