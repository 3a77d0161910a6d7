"""Finding a model's files and their digest, on directories of a few bytes. Nothing here loads torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

from batchgen.errors import Infrastructure, Refused
from batchgen.job import Model
from batchgen.job.pipelines import SD3
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.weights import digests, hub
from batchgen.weights.locate import locate, verify
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


@pytest.fixture
def counted(monkeypatch):
    """Every file that is really read and hashed; and files of any size and age may be cached."""
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda stream, name: hashed.append(stream.name) or real(stream, name))
    monkeypatch.setattr(digests, "CACHED_FROM", 0)
    monkeypatch.setattr(digests, "RACY_NS", 0)
    return hashed


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


# --- the hub


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
