"""Model directories of a few bytes, with caches of their own, for the tests of finding and hashing files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from batchgen.job import Model
from batchgen.job.pipelines import SD3
from batchgen.weights import digests
from batchgen.weights.parts import CLASSES, TOKENIZERS, WEIGHTS
from batchgen.weights.spec import ModelSpec
from tests.specs import spec_of

COMMIT = "b940f670f0eda2d07fbb75229e779da1ad11eb80"


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def weights(name: str) -> bytes:
    """A safetensors file with one byte in it."""
    header = json.dumps({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"w"


def content() -> dict[str, bytes]:
    """name → bytes of the smallest model that has everything."""
    library = {part: "diffusers" if part in ("scheduler", "transformer", "vae") else "transformers" for part in CLASSES}
    index = {part: [library[part], min(names)] for part, names in CLASSES.items()}
    found = {"model_index.json": json.dumps({"_class_name": SD3, **index}).encode()}
    found["scheduler/scheduler_config.json"] = b"{}"
    for part in TOKENIZERS:
        found[f"{part}/tokenizer.json"] = b'{"model": 1}'
    for part in WEIGHTS:
        found[f"{part}/config.json"] = b"{}"
        found[f"{part}/model.safetensors"] = weights(part)
    del found["text_encoder_3/model.safetensors"]
    shards = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    found |= {f"text_encoder_3/{shard}": weights(shard) for shard in shards}
    weight_map = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[1]}}
    found["text_encoder_3/model.safetensors.index.json"] = json.dumps(weight_map).encode()
    return found


def write(directory: Path, **changes: bytes | None) -> Path:
    for name, data in (content() | changes).items():
        if data is not None:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
    return directory


def model(name: object, **more) -> Model:
    return Model(pretrained_model_name_or_path=str(name), **more)


def spec(path, digest, revision=None, preset="sd3.5-medium") -> ModelSpec:
    return spec_of(path=str(path), digest=digest, revision=revision, preset=preset)


@pytest.fixture
def counted(monkeypatch):
    """Every file that is really read and hashed; and files of any size and age may be cached."""
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda stream, name: hashed.append(stream.name) or real(stream, name))
    monkeypatch.setattr(digests, "CACHED_FROM", 0)
    monkeypatch.setattr(digests, "RACY_NS", 0)
    return hashed
