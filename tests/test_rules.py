"""What changed since the first runs: new runs do it as it is now, those from before to their end as before."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from batchgen.comfyui.percent import levels
from batchgen.engines.sd3.sigmas import FIRST_SCHEDULES, SCHEDULES
from batchgen.job.file import load_job
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.plan.graph import expanded, make_plan
from batchgen.plan.preflight import prepare
from batchgen.plan.preview import prepare_preview
from batchgen.rows import identity
from batchgen.run import rules
from batchgen.weights.spec import spec_of

USUAL = {rules.SEEDS: 2, rules.IDLE: 2}
OLD = Path(__file__).parent / "old_runs"


def rows_of(prepared):
    return [row for _, table in expanded(prepared) for row in table.to_pylist()]


@pytest.fixture
def old(tmp_path, monkeypatch):
    """old(name) → the job of a run of c6953fb, in whose copy the working directory is."""

    def copy(name):
        shutil.copytree(OLD / name, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        return load_job("job.yaml")

    return copy


def test_a_new_run_has_the_rules_that_concern_it(make_job):
    assert prepare(make_job(["a"])).facts.rules == USUAL
    assert prepare(make_job(["a"], sampling={"seeds": [1]})).facts.rules == {rules.IDLE: 2}
    assert prepare(make_job(["a"], sampling={"schedule": "simple"})).facts.rules == USUAL | {rules.SIMPLE: 2}


def test_a_run_keeps_the_rules_it_began_with(make_job):
    job = make_job(["a"], sampling={"schedule": "simple"})
    run, _ = make_plan(prepare(job))
    again = prepare(job)
    assert (again.facts, again.needs_plan) == (run.plans[0].facts, False)
    assert spec_of(run.plans[0]).rules == again.expansion.rules == USUAL | {rules.SIMPLE: 2}


def test_a_run_from_before_is_extended_and_previewed_with_its_own_seeds(old):
    job = old("extension")
    with Path("prompts.jsonl").open("a") as file:
        file.write('{"prompt": "one more"}\n')
    prepared = prepare(job, extend=True)
    assert prepared.extends
    assert prepared.facts.rules == {}
    row = rows_of(prepared)[-1]
    assert row["prompt"] == "one more"
    assert row["seed"] == identity.derive_wide_seed(job.sampling.seed, row["prompt_id"], row["sample_index"])


def test_a_run_from_before_goes_on_with_what_is_refused_now(old):
    prepared = prepare(old("sweep"))
    assert (prepared.job.sampling.num_inference_steps, rows_of(prepared)[0]["skip_code"]) == (4, None)


def test_a_preview_of_a_run_from_before_has_its_seeds(old):
    prepared = prepare_preview(old("half_done"), 2)
    assert prepared.facts.rules == prepared.expansion.rules == {}


def test_the_same_job_elsewhere_is_a_new_run(old, tmp_path):
    job = old("half_done")
    elsewhere = job.model_copy(update={"output": job.output.model_copy(update={"path": str(tmp_path / "new")})})
    before, now = rows_of(prepare(job)), rows_of(prepare(elsewhere))
    assert [row["prompt_id"] for row in before] == [row["prompt_id"] for row in now]
    derived = [(one["seed"], other["seed"]) for one, other in zip(before, now, strict=True) if one["seed_derived"]]
    assert derived
    assert all(one >= 2**32 > other for one, other in derived[:5])


def test_a_rule_of_a_newer_version_makes_it_another_run():
    assert rules.kept({rules.SEEDS: 2, rules.SIMPLE: 3, "of the future": 2}) == {rules.SEEDS: 2}


def test_levels_of_simple_are_those_of_comfyui():
    """One level differed at seven numbers of steps."""
    differing = []
    for steps in range(1, 201):
        np.testing.assert_allclose(SCHEDULES["simple"](steps, 3.0), levels("simple", steps, 3.0), atol=1e-6)
        if (SCHEDULES["simple"](steps, 3.0) != FIRST_SCHEDULES["simple"](steps, 3.0)).any():
            differing.append(steps)
    assert 38 in differing
    assert len(differing) == 7


def test_levels_of_simple_name_the_images_that_are_drawn_with_them(make_job, monkeypatch):
    job = make_job(["a"], sampling={"schedule": "simple", "seeds": [1]})
    (now,) = rows_of(prepare(job))
    monkeypatch.setattr(rules, "of", lambda job, model: {})
    (before,) = rows_of(prepare(job))
    assert now["seed"] == before["seed"]
    assert now["image_id"] != before["image_id"]


def test_a_projection_in_a_file_of_clip_l_is_left_out_with_a_notice(make_job, tmp_path):
    tensors = load_file(DEMO_CHECKPOINT / "text_encoder/model.safetensors")
    assert "text_projection.weight" in tensors
    save_file(tensors, tmp_path / "clip_l.safetensors")
    model = {"preset": "demo", "text_encoder": str(tmp_path / "clip_l.safetensors")}
    job = make_job(["a"], model=model, sampling={"height": 96, "width": 96})
    prepared = prepare(job)
    assert prepared.facts.rules == USUAL | {rules.PROJECTION: 2}
    assert any("text_projection.weight of" in notice and "is not read" in notice for notice in prepared.notices)
    del tensors["text_projection.weight"]
    save_file(tensors, tmp_path / "clip_l.safetensors")
    assert rules.PROJECTION not in prepare(job).facts.rules
