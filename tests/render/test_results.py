"""Looking back: batchgen.open and batchgen show, on the demonstration and on runs that are not finished."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import batchgen
from batchgen import session
from batchgen.cli import app
from batchgen.errors import Infrastructure, Refused, TooManyFailures
from batchgen.look import show
from batchgen.look.status import status_of
from batchgen.run.directory import Run
from batchgen.run.sealed import seal, unseal
from batchgen.storage.store import Store


def an_image(results, **wanted):
    frame = results.to_pandas()
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return frame["image_id"].iloc[0]


def test_a_run_opens_as_data(demo_out):
    results = batchgen.open(demo_out)
    frame = results.to_pandas()
    assert len(frame) == 28
    image_id = an_image(results, prompt="a grey heart")
    row = results.row(image_id)
    assert (row["image_id"], row["prompt"], row["status"]) == (image_id, "a grey heart", "ok")
    assert results.image(image_id).size == (row["width"], row["height"])
    assert repr(results) == f"batchgen.open({demo_out!r})"


def test_it_opens_as_a_dataset(demo_out, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    dataset = batchgen.open(demo_out).dataset()
    assert len(dataset) == 28
    assert dataset[0]["image"].size == (dataset[0]["width"], dataset[0]["height"])


@pytest.mark.usefixtures("ray_session")
def test_a_run_that_is_not_finished_shows_what_is_there(make_job, console):
    job = make_job(["a", "b", "c", "d"], model={"batch_size": 2}, output={"images_per_shard": 2})
    session.render(job, console)
    data = sorted(Path(job.output.path, "data").iterdir())
    data[0].unlink()
    with pytest.raises(Infrastructure, match="is missing"):
        [
            batchgen.open(job.output.path).image(image_id)
            for image_id in batchgen.open(job.output.path).to_pandas()["image_id"]
        ]
    Path(job.output.path, "_SUCCESS").unlink()
    results = batchgen.open(job.output.path)
    frame = results.to_pandas()
    assert len(frame) == status_of(results.run).missing == 2
    assert results.image(frame["image_id"].iloc[0]).size == (32, 32)


@pytest.mark.usefixtures("ray_session")
def test_a_job_is_rendered_from_python(make_job, tmp_path):
    sections = make_job(["a", "b", "fake:raise"]).model_dump(mode="json")
    with pytest.raises(TooManyFailures):
        batchgen.render(sections)
    (tmp_path / "job.yaml").write_text(json.dumps(sections | {"errors": {"max_failed_fraction": 0.5}}))
    results = batchgen.render(tmp_path / "job.yaml")
    assert results.to_pandas()["status"].value_counts().to_dict() == {"ok": 2, "failed": 1}
    failed = an_image(results, status="failed")
    assert results.row(failed)["error_code"]
    with pytest.raises(Refused, match="has no picture: it failed"):
        results.image(failed)
    with pytest.raises(TooManyFailures):
        batchgen.render(str(tmp_path / "job.yaml"), strict=True)


def test_an_unknown_image_is_refused(demo_out):
    with pytest.raises(Refused, match="no image 'nobody'"):
        batchgen.open(demo_out).row("nobody")
    done = CliRunner().invoke(app, ["show", demo_out, "nobody"])
    assert done.exit_code == 2


def test_show_says_everything_and_renders_it_again(demo_out):
    image_id = an_image(batchgen.open(demo_out), prompt="a grey heart")
    done = CliRunner().invoke(app, ["show", demo_out, image_id, "--rerender"])
    assert done.exit_code == 0, done.output
    for part in ("prompt: a grey heart", "seed: ", "pixel_sha256: ", "versions: ", f"show {demo_out} {image_id} --rer"):
        assert part in done.output
    assert "StableDiffusion3Pipeline.from_pretrained(" in done.output
    assert done.output.rstrip().endswith("rendered again: the same pixels")


def test_show_sees_when_pixels_are_others(demo_out, tmp_path):
    """Another dtype stands for another machine."""
    out = shutil.copytree(demo_out, tmp_path / "run")
    image_id = an_image(batchgen.open(str(out)), prompt="a grey heart")
    plan = Run.open(Store.open(str(out))).plans[0]
    path = Path(out, ".batchgen/plan-000.json")
    text = unseal(path.read_bytes(), "layout").decode()
    path.write_bytes(seal(text.replace(f'"dtype": "{plan.model.dtype}"', '"dtype": "bfloat16"').encode()))
    done = CliRunner().invoke(app, ["show", str(out), image_id, "--rerender"])
    assert done.exit_code == 1
    assert "renders to other pixels here" in done.output


@pytest.mark.parametrize(
    "prompt", ["a purple star above an orange circle", "three green triangles on a black background"]
)
def test_the_snippet_draws_the_same_picture(demo_out, prompt):
    """Batch 1 instead of the run's batch: equal but for rounding."""
    results = batchgen.open(demo_out)
    row = results.row(an_image(results, prompt=prompt))
    names = {}
    exec(show.snippet(row), names)
    theirs = np.asarray(names["image"]).astype(int)
    ours = np.asarray(results.image(row["image_id"])).astype(int)
    assert np.abs(theirs - ours).max() <= 1
