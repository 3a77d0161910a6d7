"""A job file with `models:` makes one run for each below its output, of the same rows and seeds."""

import json
import re

import pytest
import yaml
from typer.testing import CliRunner

import batchgen
from batchgen import session
from batchgen.cli import app
from batchgen.errors import Refused, TooManyFailures
from batchgen.job.file import job_from, load_job, load_jobs, schema
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import Run
from tests.in_process import render_here

MODELS = {"one": {"preset": "fake"}, "another": {"preset": "fake", "dtype": "bfloat16"}}


@pytest.fixture
def job_file(tmp_path):
    """job_file(models, rows, **sections) → the path of a job file, whose output is out/."""

    def write(models=MODELS, rows=("a", "b"), **sections):
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in rows))
        values = {
            "input": {"path": str(tmp_path / "a.jsonl")},
            "models": models,
            "sampling": {"height": 32, "width": 32, "num_inference_steps": 4},
            "output": {"path": str(tmp_path / "out")},
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(values | sections, sort_keys=False))
        return path

    return write


@pytest.fixture
def rendered(job_file, tmp_path, console):
    """Both runs, rendered in this process, then ended by the session as a command would: nothing is missing, no Ray."""
    path = job_file()
    jobs = load_jobs(path)
    for job in jobs.values():
        render_here(make_plan(prepare(job))[0])
    assert [one.rendered for one in session.render_all(jobs, console, session.Options())] == [0, 0]
    return path, tmp_path / "out"


def said(*words):
    found = CliRunner().invoke(app, [str(word) for word in words])
    return found.exit_code, found.output


def test_each_model_has_a_run_of_the_same_rows_and_seeds(rendered):
    _, out = rendered
    runs = Run.all_at(str(out))
    assert list(runs) == ["one", "another"]
    one, another = (batchgen.open(run.store.url).to_pandas().set_index("prompt") for run in runs.values())
    assert one["seed"].to_dict() == another["seed"].to_dict()
    assert set(one["image_id"]).isdisjoint(another["image_id"])
    assert set(another["dtype"]) == {"bfloat16"}


def test_its_run_is_that_of_a_job_with_this_model_alone(rendered):
    path, out = rendered
    values = yaml.safe_load(path.read_text())
    alone = {name: section for name, section in values.items() if name != "models"}
    alone |= {"model": MODELS["another"], "output": {"path": str(out / "another")}}
    prepared = prepare(job_from(alone))
    assert prepared.run is not None
    assert not prepared.extends


def test_status_and_doctor_go_over_all_runs(rendered):
    path, out = rendered
    code, text = said("status", out)
    assert code == 0
    assert text.index("model one:") < text.index("2 done") < text.index("model another:")
    code, text = said("status", out, "--json")
    assert {name: one["images"] for name, one in json.loads(text).items()} == {"one": 2, "another": 2}
    code, text = said("doctor", out, "--rerender", 1)
    assert (code, text.count("sound: 2 planned = 2 images + 0 failed, 1 rendered again")) == (0, 2)
    next((out / "another/data").iterdir()).unlink()
    assert said("doctor", out)[0] == 1
    assert json.loads(said("doctor", out, "--json")[1])["one"]["problems"] == []
    assert json.loads(said("status", out / "one", "--json")[1])["images"] == 2  # of one run as ever
    code, text = said("plan", path)
    assert text.count("continues the run in") == 2


def test_open_and_all_that_takes_one_run_name_the_runs_below(rendered):
    _, out = rendered
    with pytest.raises(Refused, match=f"holds a run for each of 2 models. Name one: {out}/one, {out}/another"):
        batchgen.open(str(out))
    assert said("show", out, "x")[0] == 2


def test_a_model_more_comes_last_and_one_that_left_keeps_its_run(rendered, job_file, console):
    _, out = rendered
    jobs = load_jobs(job_file({"new": {"preset": "fake", "batch_size": 1}, "one": MODELS["one"]}))
    render_here(make_plan(prepare(jobs["new"]))[0])
    list(session.render_all(jobs, console, session.Options()))
    assert list(Run.all_at(str(out))) == ["one", "another", "new"]


def test_too_many_failures_of_one_do_not_keep_the_others_from_being_rendered(job_file, console):
    jobs = load_jobs(job_file(rows=("a", "fake:raise")))
    for job in jobs.values():
        render_here(make_plan(prepare(job))[0])
    with pytest.raises(TooManyFailures):
        list(session.render_all(jobs, console, session.Options()))
    assert console.file.getvalue().count("1 of 2 images failed") == 2


def test_a_run_of_one_model_is_not_mixed_with_those_of_several(job_file, console, tmp_path):
    path = job_file()
    alone = {name: section for name, section in yaml.safe_load(path.read_text()).items() if name != "models"}
    render_here(make_plan(prepare(job_from(alone | {"model": MODELS["one"]})))[0])
    with pytest.raises(Refused, match="holds the run of one model"):
        list(session.render_all(load_jobs(path), console, session.Options()))


@pytest.mark.parametrize(
    ("models", "sections", "message"),
    [
        ({}, {}, "job.yaml: models: write a name for each model"),
        ({"a/b": {}}, {}, "'a/b' is to be a directory"),
        (MODELS, {"model": {"preset": "demo"}}, "job.yaml: model: stands beside models"),
        ({"one": {"prset": "fake"}}, {}, "job.yaml: models.one.prset: unknown key. Did you mean preset?"),
        (MODELS, {"sampling": {"heigth": 32}}, "job.yaml: sampling.heigth: unknown key. Did you mean height?"),
        ({"a": {"preset": "fake"}, "turbo": {"preset": "sd3.5-large-turbo"}},
         {"sampling": {"skip_layer_guidance_scale": 2.0}}, "(with models.turbo)"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_once_and_with_its_model(job_file, models, sections, message):
    with pytest.raises(Refused) as refusal:
        load_jobs(job_file(models, **sections))
    assert str(refusal.value).count(message) == 1


def test_who_wants_one_model_says_what_to_do_and_doing_it_works(rendered, console):
    """--max-gpu-hours and Python want one model: each has its job, and that continues its run."""
    path, out = rendered
    with pytest.raises(Refused, match=r"job.yaml: models: one model is wanted here. Make a job of each") as from_python:
        batchgen.render(path)
    with pytest.raises(Refused, match=r"--max-gpu-hours counts for one run. Make a job of each") as of_hours:
        list(session.render_all(load_jobs(path), None, session.Options(max_gpu_hours=1.0)))
    assert str(from_python.value).split("Make a job")[1] == str(of_hours.value).split("Make a job")[1]
    values = yaml.safe_load(path.read_text())
    models = values.pop("models")
    places = re.search(r"\((.*)\)\. A run", str(of_hours.value))[1]
    assert places == f"one in {out}/one, another in {out}/another"
    for each in places.split(", "):
        name, place = each.split(" in ")
        alone = values | {"model": models[name], "output": {"path": place}}
        (finished,) = session.render_all({"": job_from(alone)}, console, session.Options(max_gpu_hours=1.0))
        assert (finished.rendered, finished.totals.images) == (0, 2), "it was there already"
        assert len(batchgen.render(alone).to_pandas()) == 2


def test_one_model_is_wanted_and_nothing_else_is_wrong(job_file):
    with pytest.raises(Refused, match="heigth: unknown key") as refused:
        load_job(job_file(sampling={"heigth": 32}))
    assert "one model is wanted" not in str(refused.value)


def test_an_editor_knows_it():
    assert schema()["properties"]["models"]["additionalProperties"] == {"$ref": "#/$defs/Model"}
