"""Finding a model's files and their digest, on directories of a few bytes. Nothing here loads torch."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

from batchgen.errors import Refused
from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.weights import digests
from batchgen.weights.locate import locate, verify
from tests.models.directories import content, counted, model, own_caches, spec, write

__all__ = ["counted", "own_caches"]  # fixtures


# --- a directory


def test_a_directory_is_found_and_verified(tmp_path):
    directory = write(tmp_path / "model")
    found = locate(model(directory))
    assert (found.path, found.revision, found.tokenizers) == (str(directory), None, directory)
    assert verify(spec(found.path, found.digest)).directory == directory


def test_a_relative_path_becomes_one_that_every_machine_understands(tmp_path, monkeypatch):
    write(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert locate(model("model")).path == str(tmp_path / "model")
    assert locate(model("./model")).path == str(tmp_path / "model")


def test_the_digest_is_that_of_names_and_contents(tmp_path):
    digest = locate(model(write(tmp_path / "a"))).digest
    lines = [f"{name}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(content().items())]
    assert digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert locate(model(write(tmp_path / "b"))).digest == digest


@pytest.mark.parametrize("name", sorted(content()))
def test_each_file_is_part_of_the_digest(tmp_path, name):
    digest = locate(model(write(tmp_path / "a"))).digest
    changed = write(tmp_path / "b", **{name: content()[name] + b" "})
    assert locate(model(changed)).digest != digest
    with pytest.raises(Refused, match="not those of the plan"):
        verify(spec(changed, digest))


def test_what_is_never_loaded_is_not_part_of_the_digest(tmp_path):
    digest = locate(model(write(tmp_path / "a"))).digest
    more = {
        "README.md": b"x",
        "sd3.5_medium.safetensors": b"x",
        "text_encoders/t5xxl_fp16.safetensors": b"x",
        "text_encoder/model.fp16.safetensors": b"x",
        "text_encoder_3/model.fp16-00001-of-00002.safetensors": b"x",
        "text_encoder_3/model.safetensors.index.fp16.json": b"x",
        "text_encoder/pytorch_model.bin": b"x",
    }
    assert locate(model(write(tmp_path / "b", **more))).digest == digest


def test_all_problems_of_a_directory_come_at_once(tmp_path):
    index = json.loads(content()["model_index.json"]) | {"vae": [None, None], "tokenizer": ["custom", "CLIPTokenizer"]}
    directory = write(
        tmp_path / "model",
        **{
            "model_index.json": json.dumps(index).encode(),
            "modeling.py": b"",
            "transformer/attention.py": b"",
            "text_encoder/model.safetensors": None,
            "text_encoder/pytorch_model.bin": b"x",
            "text_encoder_2/model.safetensors": None,
            "text_encoder_3/model-2-of-2.safetensors": None,
            "tokenizer_3/tokenizer.json": None,
            "scheduler/scheduler_config.json": b'{"use_dynamic_shifting": true, "invert_sigmas": false}',
            "transformer/config.json": None,
        },
    )
    with pytest.raises(Refused) as caught:
        locate(model(directory))
    messages = [problem.message for problem in caught.value.problems]
    assert all(problem.where == str(directory) for problem in caught.value.problems)
    for expected in (
        "modeling.py is Python code",
        "transformer/attention.py is Python code",
        "model_index.json names no vae",
        "tokenizer is custom.CLIPTokenizer",
        "text_encoder has pickled weights only (text_encoder/pytorch_model.bin)",
        "text_encoder_2 has no *.safetensors",
        "text_encoder_3/model-2-of-2.safetensors is missing but named in",
        "the folder tokenizer_3 is missing",
        "scheduler/scheduler_config.json sets use_dynamic_shifting",
        "transformer/config.json is missing",
    ):
        assert sum(expected in message for message in messages) == 1, (expected, messages)
    assert len(messages) == 10


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (None, "not a diffusers directory"),
        (b'{"_class_name": "FluxPipeline"}', "model_index.json says FluxPipeline"),
        (b"{", "unreadable JSON"),
        (b"[]", "unreadable JSON"),
    ],
)
def test_what_is_no_sd3_directory_is_refused(tmp_path, index, said):
    with pytest.raises(Refused, match=said):
        locate(model(write(tmp_path / "model", **{"model_index.json": index})))


def test_weights_of_another_precision_only_are_not_enough(tmp_path):
    changes = {"vae/model.safetensors": None, "vae/model.fp16.safetensors": b"x"}
    with pytest.raises(Refused, match=r"vae has no \*\.safetensors"):
        locate(model(write(tmp_path / "model", **changes)))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "a/b/c", "~/nowhere", "just-a-name"])
def test_a_missing_directory_is_refused(name):
    with pytest.raises(Refused, match="does not exist"):
        locate(model(name))


def test_a_revision_of_a_directory_is_refused(tmp_path):
    with pytest.raises(Refused, match="leave it out"):
        locate(model(write(tmp_path / "model"), revision="main"))


def test_without_a_path_the_preset_says_it(monkeypatch, tmp_path):
    monkeypatch.chdir(write(tmp_path / "model"))  # Path("") is this directory
    assert locate(Model(preset="demo")).path == str(DEMO_CHECKPOINT)


def test_a_single_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "sd3.5_medium.safetensors").write_bytes(b"x")
    with pytest.raises(Refused, match="is no safetensors file: download it again"):
        locate(model(tmp_path / "sd3.5_medium.safetensors"))


def test_a_directory_that_only_the_planner_has(tmp_path):
    with pytest.raises(Refused, match="path all machines share"):
        verify(spec(tmp_path / "gone", "0" * 64))


# --- presets without weights of their own


def test_fake_needs_no_files():
    found = locate(Model(preset="fake", pretrained_model_name_or_path="fake"))
    assert (found.path, found.revision, found.tokenizers) == ("fake", None, DEMO_CHECKPOINT)
    assert len(found.digest) == 64


def test_the_demo_is_found_wherever_batchgen_lies():
    found = locate(model(DEMO_CHECKPOINT, preset="demo"))
    assert verify(spec("/elsewhere/checkpoint", found.digest, preset="demo")).directory == DEMO_CHECKPOINT


def test_locating_loads_no_torch():
    code = (
        "import sys; from batchgen.weights import hub; from batchgen.weights.locate import locate;"
        "from batchgen.job import Model;"
        f"locate(Model(preset='demo', pretrained_model_name_or_path={str(DEMO_CHECKPOINT)!r}));"
        "print({'torch', 'transformers', 'diffusers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


# --- the cache of hashes


def test_a_file_is_hashed_once(tmp_path, counted):
    directory = write(tmp_path / "model")
    first = locate(model(directory)).digest
    assert len(counted) == len(content())
    assert locate(model(directory)).digest == first
    assert len(counted) == len(content())


def test_a_changed_file_is_hashed_again(tmp_path, counted):
    directory = write(tmp_path / "model")
    first = locate(model(directory)).digest
    weights = directory / "vae/model.safetensors"
    stat = weights.stat()
    other = tmp_path / "other"
    other.write_bytes(weights.read_bytes()[:-1] + b"W")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, weights)  # same path, size and mtime: only the inode tells
    assert locate(model(directory)).digest != first
    weights.write_bytes(weights.read_bytes() + b"longer than before")
    assert len({locate(model(directory)).digest, first}) == 2


def test_a_fresh_file_is_not_cached(tmp_path, counted, monkeypatch):
    """It may be written again within one tick of the clock, and nothing of its key would change."""
    monkeypatch.setattr(digests, "RACY_NS", 10**12)
    directory = write(tmp_path / "model")
    locate(model(directory))
    locate(model(directory))
    assert len(counted) == 2 * len(content())


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"a": 1}', b"\xff\xfe", b'{"%s": "short"}'])
def test_a_broken_cache_is_only_slower(tmp_path, counted, broken):
    directory = write(tmp_path / "model")
    first = locate(model(directory)).digest
    cache = tmp_path / "cache/batchgen/sha256.json"
    assert cache.exists()
    cache.write_bytes(broken)
    assert locate(model(directory)).digest == first
    assert len(json.loads(cache.read_text())) >= len(content())  # and whole again


def test_a_cache_that_cannot_be_written_is_only_slower(tmp_path, counted):
    (tmp_path / "cache").write_text("a file where the directory should be")
    directory = write(tmp_path / "model")
    assert locate(model(directory)).digest == locate(model(directory)).digest
