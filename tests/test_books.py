"""The books of a run: whoever ends last leaves those of the newest plans, and nobody believes any others."""

import json

import pytest

import batchgen
from batchgen.errors import Infrastructure, RunMismatch
from batchgen.finalize.proof import finalize, proven
from batchgen.finalize.success import Success
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.plan.retry import plan_retry
from batchgen.run.directory import Run
from batchgen.run.sealed import seal, unseal
from batchgen.storage.store import Store
from tests.in_process import render_here


class Held(Store):
    """A store that lets somebody else act just before the first write to a path that begins like this."""

    def hold(self, path, action):
        self.held, self.action = path, action
        return self

    def _act(self, path):
        if self.action and path.startswith(self.held):
            action, self.action = self.action, None
            action()

    def replace(self, path, data):
        self._act(path)
        super().replace(path, data)

    def create(self, path, data):
        self._act(path)
        return super().create(path, data)


def held(job, path, action):
    return Held.open(job.output.path).hold(path, action)


def run_of(job):
    return Run.open(Store.open(job.output.path))


def first(job):
    return render_here(make_plan(prepare(job))[0])


def extended(job):
    return render_here(make_plan(prepare(job, extend=True))[0])


def planned_on(job, store):
    """The job prepared as another command sees it now, with a store of its own."""
    prepared = prepare(job, extend=True)
    found = prepared.run and Run(store, prepared.run.plans)
    return type(prepared)(
        **{name: getattr(prepared, name) for name in prepared.__slots__} | {"store": store, "run": found}
    )


def agree(job, images, failed=0):
    run = run_of(job)
    report, status, frame = doctor.examine(run), status_of(run), batchgen.open(job.output.path).to_pandas()
    assert (report.problems, report.notes, report.images, report.failed) == ([], [], images, failed)
    assert (status.images, status.failed, status.complete) == (images, failed, True)
    assert (frame["image_id"].nunique(), len(frame)) == (images + failed, images + failed)
    assert f"\n{images} images of {images + failed} planned" in run.store.read("README.md").decode()


@pytest.mark.parametrize("where", ["metadata/", "README.md", "_SUCCESS"])
def test_a_finalize_that_was_held_up_leaves_the_books_of_the_newest_plans(make_job, where):
    job = make_job(["a", "b"])
    run = first(job)
    run.store.delete("_SUCCESS")
    store = held(job, where, lambda: extended(make_job(["a", "b", "c"])))
    assert finalize(Run(store, run.plans)).images == 3
    agree(job, images=3)


def test_a_finalize_that_sees_work_left_leaves_no_success_behind(make_job):
    job = make_job(["a", "b"])
    run = first(job)
    run.store.delete("_SUCCESS")
    store = held(job, "_SUCCESS", lambda: make_plan(prepare(make_job(["a", "b", "c"]), extend=True)))
    with pytest.raises(Infrastructure, match="1 shards are missing"):
        finalize(Run(store, run.plans))
    assert not store.exists("_SUCCESS")
    assert not status_of(run_of(job)).complete


def test_success_is_gone_before_a_generation_is_published(make_job):
    job = make_job(["a", "b"])
    first(job)
    seen = []
    store = held(job, ".batchgen/plan-001.json", lambda: seen.append(store.exists("_SUCCESS")))
    make_plan(planned_on(make_job(["a", "b", "c"]), store))
    assert seen == [False]


def test_books_of_other_plans_are_not_believed(make_job):
    job = make_job(["a", "b"])
    store = first(job).store
    old = {path: store.read(path) for path in ("_SUCCESS", "README.md", "metadata/part-00000.parquet")}
    extended(make_job(["a", "b", "c"]))
    new = {path: store.read(path) for path in old}
    for path, data in old.items():
        store.replace(path, data)
        assert proven(run_of(job)) is None, path
        assert not status_of(run_of(job)).complete, path
        assert len(batchgen.open(job.output.path).to_pandas()) == 3, path
        assert any(path in line for line in doctor.examine(run_of(job)).problems), path
        finalize(run_of(job))
        agree(job, images=3)
        store.replace(path, new[path])
    for path, data in old.items():
        store.replace(path, data)
    finalize(run_of(job))
    agree(job, images=3)


def test_a_part_too_many_is_removed(make_job):
    job = make_job(["a", "b"])
    store = first(job).store
    store.create("metadata/part-00001.parquet", store.read("metadata/part-00000.parquet"))
    assert proven(run_of(job)) is None
    finalize(run_of(job))
    agree(job, images=2)


def test_a_card_that_somebody_edited_is_theirs_and_noted(make_job):
    job = make_job(["a", "b"])
    store = first(job).store
    store.replace("README.md", store.read("README.md") + b"\nMade for the reading group.\n")
    assert proven(run_of(job))
    report = doctor.examine(run_of(job))
    assert (report.problems, report.notes) == ([], ["README.md: was edited after it was written"])
    store.replace("README.md", b"# Mine\n")
    report = doctor.examine(run_of(job))
    assert report.problems == []
    assert "its front matter does not name data/*.parquet" in report.notes[0]


@pytest.mark.parametrize("change", [{"images": 7}, {"plans": []}, {"planned": 1, "images": 1}, {"metadata": [1]}])
def test_a_success_that_says_something_else_is_named(make_job, change):
    job = make_job(["a", "b"])
    store = first(job).store
    said = json.loads(unseal(store.read("_SUCCESS"), "codes")) | change
    for data in (seal(json.dumps(said, indent=1, sort_keys=True).encode()), json.dumps(said, sort_keys=True).encode()):
        store.replace("_SUCCESS", data)
        assert any("_SUCCESS" in problem for problem in doctor.examine(run_of(job)).problems)
        assert not status_of(run_of(job)).complete


def test_what_an_earlier_version_wrote_without_a_seal_is_read(make_job):
    job = make_job(["a", "b"])
    store = first(job).store
    said = json.loads(unseal(store.read("_SUCCESS"), "codes"))
    for name in ("card", "croissant", "cells", "overflow", "prompts", "samples", "seeds", "sizes"):
        del said[name]
    store.replace("_SUCCESS", json.dumps(said, indent=1, sort_keys=True).encode())
    plan = unseal(store.read(".batchgen/plan-000.json"), "layout")
    store.replace(".batchgen/plan-000.json", plan)
    assert Success.read(run_of(job)).card is None
    agree(job, images=2)


def test_an_extension_that_comes_second_extends_what_the_first_planned(make_job):
    job, larger = make_job(["a", "b"]), make_job(["a", "b", "c", "d"])
    first(job)
    store = held(job, ".batchgen/plan-001.json", lambda: make_plan(prepare(make_job(["a", "b", "c"]), extend=True)))
    run, summary = make_plan(planned_on(larger, store))
    assert [plan.images for plan in run.plans] == [2, 1, 1]
    assert summary.images == 1
    render_here(run)
    agree(job, images=4)


def test_an_extension_that_comes_second_to_no_smaller_job_is_told(make_job):
    job = make_job(["a", "b"])
    first(job)
    store = held(job, ".batchgen/plan-001.json", lambda: make_plan(prepare(make_job(["a", "b", "x"]), extend=True)))
    with pytest.raises(RunMismatch, match="1 of the 3 images that were planned are not in the new job"):
        make_plan(planned_on(make_job(["a", "b", "c"]), store))


def test_a_retry_that_comes_second_is_planned_after_the_extension(make_job, tmp_path):
    job = make_job(["a", f"b fake:until={tmp_path}/there"])
    first(job)
    (tmp_path / "there").write_text("")
    rows = ["a", f"b fake:until={tmp_path}/there", "c"]
    store = held(job, ".batchgen/plan-001.json", lambda: make_plan(prepare(make_job(rows), extend=True)))
    run = plan_retry(Run(store, run_of(job).plans))
    assert [(plan.kind, plan.images) for plan in run.plans] == [("first", 2), ("extension", 1), ("retry", 1)]
    render_here(run_of(job))
    agree(job, images=3)


def test_every_changed_byte_of_a_plan_is_seen_when_it_is_opened(make_job):
    job = make_job(["a"])
    run, _ = make_plan(prepare(job))
    whole = run.store.read(".batchgen/plan-000.json")
    for at in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        run.store.replace(".batchgen/plan-000.json", bytes(changed))
        with pytest.raises(Infrastructure, match=r"plan-000\.json: cannot be used"):
            run_of(job)
