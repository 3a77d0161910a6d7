"""batchgen init: what it writes for a table plans at once, and says what it saw."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.job import Job
from batchgen.job.file import load_job
from batchgen.manifest.first_job import job_text, mapped

DIFFUSIONDB = "image_name prompt part_id seed step cfg sampler width height user_name timestamp image_nsfw prompt_nsfw"


def init(*arguments):
    done = CliRunner().invoke(app, ["init", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_first_job_plans_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.csv").write_text("Caption,cfg,status,source\na cat,4.5,new,web\na dog,,old,web\n")
    code, said = init("captions.csv", "--preset", "demo")
    assert (code, said) == (0, "Wrote job.yaml. Look at it, then: batchgen plan job.yaml\n")
    job = load_job("job.yaml")
    assert job.input.columns == {"Caption": "prompt", "cfg": "guidance_scale", "status": "source_status"}
    text = (tmp_path / "job.yaml").read_text()
    assert "# 2 rows. Columns with a meaning: prompt, guidance_scale." in text
    assert "# These pass through to the output: source_status, source." in text
    planned = CliRunner().invoke(app, ["plan", "job.yaml"])
    assert planned.exit_code == 0, planned.output
    assert "2 images of 2 prompts" in planned.output


def test_diffusiondb_needs_column_mapping_alone(tmp_path):
    types = {"seed": 7, "step": 50, "cfg": 7.0, "sampler": 8, "width": 512, "height": 512, "part_id": 1}
    values = {name: [types.get(name, f"some {name}")] for name in DIFFUSIONDB.split()}
    pq.write_table(pa.table(values), tmp_path / "metadata.parquet")
    text = job_text(str(tmp_path / "metadata.parquet"), "out/run")
    assert yaml.safe_load(text)["input"]["columns"] == {"cfg": "guidance_scale", "step": "num_inference_steps"}


def test_every_line_that_is_commented_out_is_what_is_taken_without_it(tmp_path):
    (tmp_path / "a.txt").write_text("a cat\n")
    text = job_text(str(tmp_path / "a.txt"), "out/run")
    bare = Job.model_validate(yaml.safe_load(text))
    spelled = "\n".join(
        line.replace("# ", "", 1) if line.startswith("  # ") and ": " in line and "NAME" not in line else line
        for line in text.splitlines()
        if "rows. Columns" not in line and "pretrained" not in line and "price" not in line and "renderers" not in line
    )
    assert Job.model_validate(yaml.safe_load(spelled)) == bare


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "a.txt").write_text("a cat\n")
    (tmp_path / "job.yaml").write_text("mine")
    code, said = init(tmp_path / "a.txt", "--job", tmp_path / "job.yaml")
    assert code == 2
    assert "File exists" in said
    assert (tmp_path / "job.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.csv"], "there is no such file"),
        (["a.csv"], "there is no column 'prompt'"),
        (["a.txt", "--preset", "sd9"], "Presets: "),
    ],
)
def test_what_it_cannot_use_it_says(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "a.txt").write_text("a cat\n")
    code, said = init(*arguments)
    assert code == 2
    assert says in said
    assert not (tmp_path / "job.yaml").exists()


def test_names_that_mean_ours():
    assert mapped(["prompt", "caption"]) == {}
    assert mapped(["text", "Steps", "model"]) == {
        "text": "prompt",
        "Steps": "num_inference_steps",
        "model": "source_model",
    }


def test_the_schema_knows_every_key():
    done = CliRunner().invoke(app, ["schema"])
    found = json.loads(done.output)
    assert found["required"] == ["input", "output"]
    assert set(found["properties"]) == {*Job.model_fields, "models"}
    assert "num_inference_steps" in found["$defs"]["Sampling"]["properties"]
    assert "required" not in found["$defs"]["Sampling"]
    assert found["$defs"]["Sampling"]["additionalProperties"] is False
