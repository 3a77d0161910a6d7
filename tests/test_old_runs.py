"""Runs that batchgen c6953fb wrote, in tests/old_runs/, are opened, doctored, continued, extended and tried again.

Each folder has the job file, the table and the run as they were left: finished (the demo checkpoint, CSV), half_done (3
of 6 shards), sweep (cells, WebP), extension (two generations), skipped (bad rows in the books, one that failed),
retried (a generation of what failed), refine (a second pass).
"""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import batchgen
from batchgen.evaluate.comparison import compare
from batchgen.evaluate.scores import About, write_part
from batchgen.finalize.proof import proven
from batchgen.job.file import job_from, load_job
from batchgen.job.stored import stored_job
from batchgen.look import again, doctor, show
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan, survey
from batchgen.plan.preflight import prepare
from batchgen.plan.retry import plan_retry
from batchgen.rows.identity import fingerprint
from batchgen.run.directory import Run
from batchgen.storage.store import Store
from tests.in_process import render_here

RUNS = Path(__file__).parent / "old_runs"
NAMES = sorted(path.name for path in RUNS.iterdir())
COUNTS = {  # images, failed, generations
    "extension": (8, 0, 2),
    "finished": (4, 0, 1),
    "half_done": (12, 0, 1),
    "refine": (2, 0, 1),
    "retried": (3, 1, 2),
    "skipped": (2, 4, 1),
    "sweep": (32, 0, 1),
}


@pytest.fixture
def old(tmp_path, monkeypatch):
    """old(name) → a copy of the run; the working directory is where its job file lies."""

    def copy(name):
        shutil.copytree(RUNS / name, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        return Run.open(Store.open("run"))

    return copy


def stored_files():
    return {path: path.read_bytes() for path in sorted(Path("run/data").iterdir())}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_opened_counted_and_proven(old, name):
    run = old(name)
    images, failed, generations = COUNTS[name]
    now = status_of(run)
    assert (now.images, now.failed, len(run.plans)) == (images, failed, generations)
    frame = batchgen.open("run").to_pandas()
    assert (frame["status"] == "ok").sum() == images
    report = doctor.examine(run)
    missing = [problem for problem in report.problems if "is missing" in problem]
    assert report.problems == missing
    assert len(missing) == now.shards - now.committed_shards
    assert now.complete == (not missing)


@pytest.mark.parametrize("name", NAMES)
def test_its_own_job_continues_it(old, name):
    """The same fingerprint, and no image is another one: what is there stays, what is missing is rendered."""
    before = old(name)
    prepared = prepare(load_job("job.yaml"))
    assert prepared.run is not None
    assert not prepared.extends
    assert prepared.fingerprint == before.plans[-1].fingerprint
    kept = stored_files()
    assert survey(prepared).images == sum(plan.images for plan in before.plans) - before.replacements
    if name == "half_done":
        render_here(before)
        assert doctor.examine(before).problems == []
        assert status_of(before).images == 24
    assert {path: data for path, data in stored_files().items() if path in kept} == kept
    assert proven(before) is not None


@pytest.mark.parametrize("name", NAMES)
def test_its_plans_are_written_as_they_were_read(old, name):
    for plan in old(name).plans:
        there = json.loads(Path(f"run/.batchgen/plan-{plan.generation:03}.json").read_text())
        assert json.loads(plan.to_json()) == there


@pytest.mark.parametrize("name", ["extension", "half_done", "sweep"])
def test_it_is_extended(old, name):
    before = old(name)
    lines = Path("prompts.jsonl").read_text()
    row = {"id": "new", "prompt": "one more thing"} if name == "sweep" else {"prompt": "one more thing"}
    if name == "half_done":
        row |= {"topic": "t9", "width": 32, "height": 32}
    Path("prompts.jsonl").write_text(lines + json.dumps(row) + "\n")
    kept = stored_files()
    run, summary = make_plan(prepare(load_job("job.yaml"), extend=True))
    assert len(run.plans) == len(before.plans) + 1
    assert summary.images == {"extension": 2, "half_done": 1, "sweep": 8}[name]
    render_here(run)
    assert doctor.examine(run).problems == []
    assert {path: data for path, data in stored_files().items() if path in kept} == kept


@pytest.mark.parametrize(("name", "again_failed"), [("skipped", 1), ("retried", 1)])
def test_its_failures_are_tried_again(old, name, again_failed):
    before = old(name)
    run = render_here(plan_retry(before))
    assert run.plans[-1].images == again_failed
    assert run.plans[-1].stored == before.plans[-1].stored
    assert doctor.examine(run).problems == []
    assert status_of(run).failed == COUNTS[name][1]


@pytest.mark.parametrize("name", ["half_done", "sweep", "retried"])
def test_its_pictures_render_again_to_the_same_pixels(old, name):
    """Of the fake renderer, whose pixels hang on everything that decides an image and on no hardware."""
    run, report = old(name), doctor.Report()
    Path("there.txt").touch()  # what a row of `retried` waits for
    again.rerender(run, 3, report)
    assert (report.rerendered, report.problems) == (3, [])


@pytest.mark.parametrize("name", ["finished", "refine"])
def test_the_code_of_its_pictures_is_shown(old, name):
    old(name)
    row = batchgen.open("run").to_pandas().to_dict("records")[0]
    row = batchgen.open("run").row(row["image_id"])
    compile(show.snippet(row), "snippet", "exec")
    assert any(name == "seed" for name, _ in show.facts(row))


def test_what_another_version_wrote_beside_is_passed_over(old):
    """A newer batchgen may have known more of a job, of a fact, of a model; an older one may have allowed more."""
    old("sweep")
    path = Path("run/.batchgen/plan-000.json")
    plan = json.loads(path.read_text())
    plan["job"] |= {"new_section": {"key": 1}}
    plan["job"]["sampling"] |= {"new_key": [1, 2], "guidance_scale": 1000.0}
    plan["job"]["model"] |= {"preset": "fake", "new_key": {"deep": True}}
    plan["facts"] |= {"a new fact": 1}
    plan["fingerprint"] = fingerprint(plan["facts"])
    plan["model"] |= {"new_key": 1}
    plan |= {"new_key": 1}
    path.write_text(json.dumps(plan))
    run = Run.open(Store.open("run"))
    assert run.plans[0].job.sampling.guidance_scale == 1000.0
    assert run.plans[0].facts.unknown == {"a new fact": 1}
    assert doctor.examine(run).problems == []
    again.rerender(run, 1, report := doctor.Report())
    assert report.problems == []


def test_a_stored_job_is_not_judged_again():
    values = json.loads((RUNS / "refine/run/.batchgen/plan-000.json").read_text())["job"]
    values["sampling"] |= {"height": 7, "sampler": "of the future"}
    values["output"] |= {"image_format": "png", "image_quality": 50}
    job = stored_job(values)
    assert (job.sampling.height, job.sampling.sampler, job.output.image_quality) == (7, "of the future", 50)
    assert job.refine.scale == 1.5
    assert job.models == (job.model, job.model)


def test_the_runs_hold_what_this_file_says():
    assert sorted(COUNTS) == NAMES
    assert pq.read_metadata(next((RUNS / "sweep/run/data").iterdir())).num_rows > 0


def test_what_it_did_not_note_is_null(old):
    old("sweep")
    frame = batchgen.open("run").to_pandas()
    assert frame["source_file"].isna().all()
    assert frame["source_row"].isna().all()
    assert batchgen.open("run").row(frame["image_id"][0])["source_file"] is None


def test_it_is_compared_with_one_of_today_that_sweeps_what_it_could_not(old):
    before = old("sweep")
    values = yaml.safe_load(Path("job.yaml").read_text()) | {"output": {"path": "new"}}
    values["sampling"].pop("skip_layer_guidance_scale")
    values |= {"sweep": {"shift": [1.0, 3.0]}}
    after = render_here(make_plan(prepare(job_from(values)))[0])
    for run in (before, after):
        rows = batchgen.open(run.store.url).to_pandas()
        scores = [{"image_id": one, "score": float(at % 5)} for at, one in enumerate(rows["image_id"])]
        write_part(run.store, About(scorer="made-up", version="1"), scores)
    found = compare([("old", before), ("new", after)])
    assert [cell.name for cell in found.cells] == [
        *(f"old: guidance_scale={guidance},negative_prompt={text}" for guidance in (1.0, 4.5) for text in ("", "ugly")),
        "new: shift=1.0", "new: shift=3.0",
    ]  # fmt: skip
    (ranking,) = found.rankings
    assert len(ranking.standings) == 6
    assert all(cell.unpartnered == 0 for cell in found.cells)
