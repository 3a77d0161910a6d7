"""Finding another model's files on the hub and in its cache: only its own components, and no code."""

from __future__ import annotations

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from batchgen.errors import Refused
from batchgen.weights import hub
from batchgen.weights.locate import locate, verify
from batchgen.weights.parts import parts_of
from tests.models.directories import COMMIT, model, weights
from tests.models.test_hub import NAME, write_hub_cache
from tests.specs import spec_of

OTHER = {"preset": "diffusers"}
INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "image_encoder": [None, None],
    "force_zeros_for_empty_prompt": True,
}
OWN = {
    "model_index.json": json.dumps(INDEX).encode(),
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"a b",
    "tokenizer/chat_template.jinja": b"{{ prompt }}",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": weights("unet"),
}
# What stands beside it in stabilityai/stable-diffusion-xl-base-1.0 and is never read.
BESIDE = {
    "README.md": b"x",
    "sd_xl_base_1.0.safetensors": b"x",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"x",
    "unet/model.onnx": b"x",
    "vae_1_0/config.json": b"{}",
    "vae_1_0/diffusion_pytorch_model.safetensors": b"x",
}


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def write(directory, files):
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def digest_of(directory):
    return locate(model(directory, **OTHER)).digest


def spec(path, digest, revision=None):
    values = {"path": str(path), "digest": digest, "revision": revision, "pretrained_model_name_or_path": str(path)}
    return spec_of(**values | OTHER)


def test_the_digest_is_that_of_its_own_files(tmp_path):
    digest = digest_of(write(tmp_path / "a", OWN))
    lines = [f"{name}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(OWN.items())]
    assert digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert digest_of(write(tmp_path / "b", OWN | BESIDE)) == digest


@pytest.mark.parametrize("name", sorted(OWN))
def test_each_of_them_is_verified(tmp_path, name):
    directory = write(tmp_path / "a", OWN)
    digest = digest_of(directory)
    assert verify(spec(directory, digest)).directory == directory
    write(directory, {name: OWN[name] + b" "})
    with pytest.raises(Refused, match="not those of the plan"):
        verify(spec(directory, digest))


def test_offline_the_cache_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = write_hub_cache(tmp_path / "hub", OWN | BESIDE)
    found = locate(model(NAME, **OTHER))
    assert (found.path, found.revision, found.tokenizers) == (NAME, COMMIT, snapshot)
    assert found.digest == digest_of(write(tmp_path / "copy", OWN))
    assert verify(spec(NAME, found.digest, COMMIT)).directory == snapshot


def test_online_the_planner_fetches_what_is_small_and_its_own(tmp_path, monkeypatch):
    """The two calls that reach the hub, answered from a directory."""
    source, fetched = write(tmp_path / "remote", OWN | BESIDE | {"pipeline.py": b""}), []

    def model_info(self, name, *, revision, files_metadata):
        files = [path for path in sorted(source.rglob("*")) if path.is_file()]
        siblings = [
            SimpleNamespace(
                rfilename=path.relative_to(source).as_posix(),
                lfs=SimpleNamespace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
                if path.suffix == ".safetensors"
                else None,
            )
            for path in files
        ]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    def download(name, *, revision, allow_patterns):
        assert revision == COMMIT
        fetched.extend(allow_patterns)
        for file in allow_patterns:
            (tmp_path / "fetched" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / file, tmp_path / "fetched" / file)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(hub, "snapshot_download", download)
    found = locate(model(NAME, **OTHER))
    assert set(fetched) == {name for name in OWN if not name.endswith(".safetensors")}
    assert found.digest == digest_of(write(tmp_path / "copy", OWN))


def test_what_an_actor_fetches():
    wanted = parts_of("diffusers", INDEX).wanted
    assert {pattern.split("/")[0] for pattern in wanted} == {"model_index.json", "scheduler", "tokenizer", "unet"}
    assert not any(pattern.endswith((".py", ".bin")) for pattern in wanted)
