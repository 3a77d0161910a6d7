"""Second thoughts: a run is extended, its failures are tried again, it is moved; nothing committed is rewritten."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchgen
from batchgen.errors import Refused, RunMismatch
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan, survey
from batchgen.plan.preflight import prepare
from batchgen.plan.retry import plan_retry
from batchgen.run.directory import owned_footer
from batchgen.run.layout import data_path
from tests.in_process import render_here


def planned(job, extend=False):
    prepared = prepare(job, extend=extend)
    return prepared.run if prepared.run and not prepared.extends else make_plan(prepared)[0]


def render(job, extend=False, retry=False):
    """What session.render does, in this process instead of Ray's."""
    run = planned(job, extend)
    return render_here(plan_retry(run) if retry else run)


def digests(job):
    folder = Path(job.output.path) / "data"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def pixels(job):
    table = pq.read_table(f"{job.output.path}/data", columns=["image_id", "pixel_sha256", "planned_batch_size"])
    assert len(set(table["image_id"].to_pylist())) == len(table)
    return {row["image_id"]: row["pixel_sha256"] for row in table.to_pylist()}


def sound(found):
    """The doctor's word, and that status and metadata count the same."""
    report, frame, now = doctor.examine(found), batchgen.open(found.store.url).to_pandas(), status_of(found)
    assert report.problems == []
    assert frame["image_id"].is_unique
    counts = frame["status"].value_counts()
    assert (report.images, report.failed) == (counts.get("ok", 0), counts.get("failed", 0))
    assert (now.planned, now.images, now.failed, now.missing) == (report.planned, report.images, report.failed, 0)
    assert report.planned == report.images + report.failed == found.planned
    return report


def test_more_rows_samples_and_cells(make_job):
    rows = [{"prompt": f"p{i}", "height": 32 + 16 * (i % 2), "width": 32} for i in range(7)]
    sweep = {"guidance_scale": [2.0, 4.5]}
    small = make_job(rows, sweep=sweep, output={"images_per_shard": 4})
    render(small)
    before, known = digests(small), pixels(small)
    more = [*rows[::-1], {"prompt": "new"}, {"prompt": "p0"}]
    large = make_job(
        more,
        sweep={"guidance_scale": [4.5, 2.0, 7.0]},
        sampling={"num_images_per_prompt": 2},
        output={"images_per_shard": 4},
    )
    with pytest.raises(RunMismatch, match="--extend"):
        prepare(large)
    found = render(large, extend=True)
    assert sound(found).images == 9 * 2 * 3
    assert {name: value for name, value in digests(large).items() if name in before} == before
    assert pixels(large).items() >= known.items()
    assert [one.kind for one in found.plans] == ["first", "extension"]
    elsewhere = make_job(more, out="elsewhere", sweep=large.sweep.axes(), sampling={"num_images_per_prompt": 2})
    render(elsewhere)
    assert pixels(elsewhere).keys() == pixels(large).keys(), "an extension holds what the large job alone would"


def test_an_extended_run_goes_on_as_any_other(make_job):
    small, large = make_job(["a", "b"]), make_job(["a", "b", "c"])
    render(small)
    render(large, extend=True)
    for job in (small, large):
        assert prepare(job).run is not None, "both jobs continue it, without --extend"
        assert not prepare(job, extend=True).extends
    third = render(make_job(["a", "b", "c", "d"]), extend=True)
    assert [one.images for one in third.plans] == [2, 1, 1]
    sound(third)


def test_an_extension_that_adds_nothing_is_remembered(make_job):
    render(make_job(["a", "b"]))
    found = render(make_job(["b", "a"]), extend=True)
    assert [one.images for one in found.plans] == [2, 0]
    sound(found)
    assert prepare(make_job(["b", "a"])).run is not None


@pytest.mark.parametrize(
    ("rows", "sections", "message"),
    [
        (["a", "c"], {}, "1 of the 2 images that were planned are not in the new job"),
        (["a", "b", "c"], {"sampling": {"guidance_scale": 7.0}}, "2 of the 2 images"),
        (["a", "b"], {"sweep": {"guidance_scale": [4.5, 7.0]}}, "a sweep where there was none"),
        ([{"prompt": "a", "x": 1}, {"prompt": "b", "x": 1}], {}, r"columns that pass through differ \(x\)"),
        (["a", "b", "c"], {"output": {"image_format": "webp"}}, "output.image_format: there png, now webp"),
        (["a", "b", "c"], {"model": {"batch_size": 2}}, "model.batch_size: there auto, now 2"),
        (["a", "b", "c"], {"sampling": {"skip_guidance_layers": [0]}}, "skip_guidance_layers"),
    ],
)
def test_what_is_no_extension_is_told_and_nothing_is_written(make_job, rows, sections, message):
    job = make_job(["a", "b"])
    render(job)
    before = sorted(str(path) for path in Path(job.output.path).rglob("*"))
    message = message.replace("there png, now webp", 'there "png", now "webp"').replace("there auto", 'there "auto"')
    with pytest.raises(RunMismatch, match=message) as error:
        planned(make_job(rows, **sections), extend=True)
    assert f"--set output.path={job.output.path}-2" in str(error.value)
    assert sorted(str(path) for path in Path(job.output.path).rglob("*")) == before


def test_plan_shows_what_an_extension_would_add(make_job):
    render(make_job(["a", "b"]))
    assert survey(prepare(make_job(["a", "b", "c"]), extend=True)).images == 1
    with pytest.raises(RunMismatch):
        survey(prepare(make_job(["a", "c"]), extend=True))


def test_bad_rows_of_an_extension_are_refused_and_skipped_ones_stay_in_the_books(make_job):
    skip = {"errors": {"bad_rows": "skip"}}
    render(make_job(["a", ""], **skip))
    with pytest.raises(Refused, match=r"line 4: column prompt is blank"):
        planned(make_job(["a", "", "b", " "]), extend=True)
    found = render(make_job(["a", "", "b", " "], **skip), extend=True)
    report = sound(found)
    assert (report.images, report.failed) == (2, 2)


def test_an_extension_with_an_unreadable_line_names_it(make_job, tmp_path):
    render(make_job(["a", "b"]))
    job = make_job(["a", "b"])
    pq.write_table(pa.table({"prompt": ["a", "b", "c"]}), tmp_path / "p.parquet", write_page_checksum=True)
    data = bytearray((tmp_path / "p.parquet").read_bytes())
    data[30] ^= 1
    (tmp_path / "p.parquet").write_bytes(data)
    damaged = job.model_copy(update={"input": job.input.model_copy(update={"path": str(tmp_path / "p.parquet")})})
    with pytest.raises(Refused, match=r"p\.parquet"):
        planned(damaged, extend=True)


def test_rows_that_were_skipped_for_their_length_may_come_back(make_job):
    rows = ["a", "word " * 90]
    small = make_job(rows, errors={"on_overflow": {"clip": "skip"}})
    assert sound(render(small)).failed == 1
    found = render(make_job([*rows, "b"], errors={"on_overflow": {"clip": "keep"}}), extend=True)
    report = sound(found)
    assert (report.images, report.failed) == (3, 0)
    assert found.replacements == 1


def test_what_failed_is_tried_again(make_job, tmp_path):
    rows = [f"p{i}" if i % 3 else f"p{i} fake:until={tmp_path}/there" for i in range(10)]
    job = make_job([*rows, "fake:raise"], output={"images_per_shard": 4})
    assert sound(render(job)).failed == 5
    before, known = digests(job), pixels(job)
    (tmp_path / "there").write_text("")
    found = render(job, retry=True)
    report = sound(found)
    assert (report.images, report.failed) == (10, 1)
    assert {name: value for name, value in digests(job).items() if name in before} == before
    assert [(one.kind, one.images) for one in found.plans] == [("first", 11), ("retry", 5)]
    elsewhere = make_job([*rows, "fake:raise"], out="elsewhere", output={"images_per_shard": 4})
    render(elsewhere)
    assert pixels(job) == pixels(elsewhere), "tried again in the batch shape that was planned at first"
    assert pixels(job).items() >= known.items()
    frame = batchgen.open(found.store.url).to_pandas().set_index("prompt")
    assert frame.loc["fake:raise", "error_code"] == "RENDER_ERROR"
    assert frame.loc["fake:raise", "plan"] == found.plans[1].plan, "its newest state"
    assert [one.images for one in render(job, retry=True).plans] == [11, 5, 1], "and once more"


def test_a_retry_that_was_interrupted_goes_on(make_job, tmp_path):
    job = make_job(["a", f"fake:until={tmp_path}/there"])
    render(job)
    (tmp_path / "there").write_text("")
    assert len(plan_retry(planned(job)).plans) == 2
    halfway = status_of(planned(job))
    assert (halfway.images, halfway.failed, halfway.missing) == (1, 0, 1)
    found = render(job, retry=True)
    assert len(found.plans) == 2
    assert sound(found).failed == 0
    assert plan_retry(found).plans == found.plans, "nothing is left to try"


def test_a_lost_shard_does_not_render_what_a_retry_has(make_job, tmp_path):
    job = make_job(["a", f"fake:until={tmp_path}/there"])
    render(job)
    (tmp_path / "there").write_text("")
    found = render(job, retry=True)
    found.store.delete(data_path(0))
    assert sound(render(job)).images == 2
    (row,) = [name for name, why in owned_footer(found.store, 0, found.plans[0].plan).failures.items()]
    assert batchgen.open(found.store.url).row(row)["shard"] == 1


def test_a_run_may_be_moved(make_job, tmp_path):
    job = make_job(["a", "b", "fake:raise"], errors={"max_failed_fraction": 1.0}, output={"images_per_shard": 1})
    found = render(job)
    found.store.delete(data_path(1))
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = job.model_copy(update={"output": job.output.model_copy(update={"path": str(tmp_path / "moved")})})
    assert sound(render(moved, retry=True)).failed == 1
