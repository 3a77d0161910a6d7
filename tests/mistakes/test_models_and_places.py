"""Mistakes 68 to 72: adapters, secrets, places for the output, weights."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.weights.locate import verify
from batchgen.weights.spec import ModelSpec
from tests.mistakes.outcome import look, write
from tests.test_storage import nobody

ROWS = [{"prompt": "a cat"}]
SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY"
SIGNED = f"https://bucket.s3.amazonaws.com/x.png?X-Amz-Credential=AKIAIOSFODNN7&X-Amz-Signature={SECRET}"


@pytest.mark.parametrize("column", ["lora", "lora_scale"])
@pytest.mark.parametrize("value", ["../x", "https://x.org/x.safetensors", "x.bin", "x.pt", "/etc/passwd", "nan"])
def test_68_69_adapters_in_rows(put, accepted, column, value):
    """batchgen has no adapters yet. The column passes through, nothing is opened by its name, and a note says so."""
    found = accepted(put([{"prompt": "x", column: float(value) if value == "nan" else value}]))
    assert f"Column {column} passes through and changes no image" in found.notices[0]
    assert str(found.images[0][column]) == value


@pytest.mark.parametrize("alias", ["../x.safetensors", "https://x.org/x.safetensors", "x.bin", "watercolour"])
def test_68_69_a_row_names_an_alias_of_the_job_and_never_a_file(bad_row, alias):
    bad_row({"prompt": "x", "adapter": alias}, "BAD_ADAPTER", "write an alias of model.adapters (none is declared)")


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        ({"path": "x.pt"}, "x.pt is a pickle, which can run code: convert it to safetensors."),
        ({"path": "x"}, "x: write the path of one *.safetensors file."),
        ({"path": "x.safetensors", "scale": 1e9}, "Input should be less than or equal to 10"),
        ({"path": "x.safetensors", "weight": 1}, "unknown key."),
    ],
    ids=str,
)
def test_68_69_adapters_in_the_job(put, job, adapter, says):
    values = job(put(ROWS), model={"adapters": {"one": adapter}})
    [problem] = look(values).problems
    assert problem.where.startswith("job: model.adapters.one")
    assert says in problem.message


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the demo checkpoint that may be damaged; large files are links."""
    folder = tmp_path / "model"
    shutil.copytree(DEMO_CHECKPOINT, folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    return folder


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def of(folder):
    return {"preset": "demo", "pretrained_model_name_or_path": str(folder)}


def test_68_pickled_weights(put, checkpoint, refused):
    weights = checkpoint / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    says = "vae has pickled weights only (vae/diffusion_pytorch_model.bin), which can run code: convert them"
    refused(put(ROWS), says, where=str(checkpoint), model=of(checkpoint))


@pytest.mark.parametrize(
    ("section", "key", "url"),
    [
        ("input", "path", f"s3://AKIAIOSFODNN7:{SECRET}@bucket/prompts.parquet"),
        ("input", "path", SIGNED),
        ("output", "path", f"s3://key:{SECRET}@bucket/run"),
        ("model", "pretrained_model_name_or_path", f"https://user:{SECRET}@host/model"),
    ],
)
def test_70_secrets_in_the_job(put, job, command, section, key, url):
    values = job(put(ROWS), model={"preset": "demo"})
    values[section][key] = url
    said = command(values, "***")
    assert SECRET not in said
    assert "problems" not in said
    if section != "model":
        assert "holds credentials. Write the URL without them, and set AWS_ACCESS_KEY_ID" in said


def test_70_secrets_in_a_job_file_with_other_mistakes(put, job, command):
    """What is shown of a wrong value may be a password in the wrong place."""
    values = job(put(ROWS)) | {"output": f"s3://key:{SECRET}@bucket/run"}
    assert SECRET not in command(values, "output: is a section, not", "***")


@pytest.mark.parametrize("url", [SIGNED, f"s3://key:{SECRET}@bucket/x", f"see https://u:{SECRET}@h/x"], ids=range(3))
def test_70_secrets_in_rows(put, bad_row, url):
    """A row's, so that `skip` makes a dataset without it: the URL is never stored, not even with the skipped row."""
    for row in ({"prompt": "x", "url": url}, {"prompt": "x", "url": {"nested": [url]}}):
        found = bad_row(row, "SECRET_IN_URI", "column url holds credentials", "***", "input.keep_columns")
        assert SECRET not in json.dumps(found.skipped, default=str)


def test_70_urls_without_secrets(put, accepted):
    urls = ["https://x.org/a?b=c@d", "http://host:8080/x@y", "mail me@x.org", "s3://bucket/a:b@c", "a://b c:d@e"]
    found = accepted(put([{"prompt": "x", "url": url} for url in urls]))
    assert [image["url"] for image in found.images] == urls


def probed(values):
    """As `batchgen render` does before it plans."""
    with pytest.raises(Refused) as error:
        make_plan(prepare(job_from(values)))
    return str(error.value)


@pytest.mark.parametrize("folder", ["/", "/tmp", "/usr/", "~", "file:///"])
def test_71_folders_of_the_system(put, job, folder, monkeypatch):
    """Said before anything in them is listed, beside all other problems."""

    def unlooked(_):
        raise Refused("the table was not looked at")

    monkeypatch.setattr("batchgen.storage.backends.Local.list", None)
    monkeypatch.setattr("batchgen.plan.preflight.sources.find_sources", unlooked)
    said = str(look(job("prompts.jsonl", output={"path": folder})).refusal)
    assert "is no place for a dataset. Name a folder of its own in it." in said


def test_71_a_folder_of_somebody_else(put, job, command, tmp_path):
    thesis = write(tmp_path / "run" / "thesis.tex", "x")
    command(job(put(ROWS)), "is not empty and not a batchgen run (thesis.tex). Name a new directory.")
    assert thesis.read_text() == "x"


def test_71_a_folder_that_may_not_be_written(job):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "in", "prompts.jsonl"), ROWS)
        Path(folder).chmod(0o555)
        Path(folder, "in").chmod(0o555)
        with nobody():
            said = probed(job(path, output={"path": f"{folder}/run"}))
    assert f"{folder}/run: cannot hold the output." in said
    assert "permission denied for user" in said


@pytest.mark.parametrize("place", ["/proc/run", "/dev/null/run", "/sys/run"])
def test_71_places_where_no_file_can_be(put, job, place):
    """Full and read-only disks are mounted in tests/test_storage.py; a missing bucket is asked for in tests/storage."""
    assert f"{place}: cannot hold the output." in probed(job(put(ROWS), output={"path": place}))


@pytest.mark.parametrize("url", ["https://example.org/run", "s3://", "s4://bucket/run", "", "zip::s3://bucket/x.zip"])
def test_71_urls_that_nothing_can_be_written_to(put, job, url, monkeypatch):
    monkeypatch.setattr("batchgen.plan.preflight.find_run", lambda _: None)  # which would ask the internet
    assert "rite" in (said := probed(job(put(ROWS), output={"path": url}))) or "Use a" in said


@pytest.mark.parametrize("name", ["vae/diffusion_pytorch_model.safetensors", "vae/config.json", "model_index.json"])
def test_72_a_missing_file(put, checkpoint, refused, name):
    (checkpoint / name).unlink()
    refused(put(ROWS), Path(name).parts[0], where=str(checkpoint), model=of(checkpoint))


PAGE = b"<!DOCTYPE html><html><title>404</title>" + b" " * 100
WEIGHTS = {
    "a web page": PAGE,
    "a huge header": (2**60).to_bytes(8, "little") + PAGE,
    "a header beyond the file": (10**6).to_bytes(8, "little") + PAGE,
    "a header that is no JSON": (20).to_bytes(8, "little") + PAGE,
    "a header that is no table": (2).to_bytes(8, "little") + b"[]",
    "a header of nonsense": (9).to_bytes(8, "little") + b'{"a":[1]}',
    "a deep header": (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "nothing": b"",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
}


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_72_weights_that_are_none(put, checkpoint, refused, content):
    """Seen in the header, before a GPU waits for them."""
    name = "transformer/diffusion_pytorch_model.safetensors"
    replace(checkpoint / name, content)
    refused(put(ROWS), f"{name} is no safetensors file: download it again.", model=of(checkpoint))


def test_72_a_download_that_ended_early(put, checkpoint, refused):
    name = "vae/diffusion_pytorch_model.safetensors"
    replace(checkpoint / name, (checkpoint / name).read_bytes()[:-1000])
    refused(put(ROWS), f"{name} ends 1,000 bytes early: download it again.", model=of(checkpoint))


def test_72_other_weights_than_planned(put, checkpoint, accepted):
    """A renderer loads only what was planned; what differs is found before the GPU is asked for anything."""
    prepared = accepted(put(ROWS), model=of(checkpoint)).prepared
    spec = ModelSpec.of(prepared.model, prepared.job)
    verify(spec)
    path = checkpoint / "vae" / "diffusion_pytorch_model.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    replace(path, bytes(changed))
    with pytest.raises(Refused, match="are not those of the plan"):
        verify(spec)


def test_72_a_bomb_in_a_column_of_pictures(put, accepted, monkeypatch):
    """Columns of pictures are dropped with a notice and never opened, so that it does not matter what is in them."""
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "png")
    monkeypatch.setattr(Image, "open", None)
    found = accepted(put({"prompt": ["x"], "image": [bomb.getvalue()], "z": [b"PK\x03\x04" * 9]}, "a.parquet"))
    assert found.notices == [f"Column {name} is binary and does not pass through." for name in ("image", "z")]
    assert not {"image", "z"} & set(found.images[0])
