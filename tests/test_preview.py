"""preview.py without Ray: where a preview lies, that it is a run of its own, and that its pixels are the full run's."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from batchgen import session
from batchgen.errors import Refused, RunMismatch
from batchgen.look import contact_sheet, doctor
from batchgen.look.lettering import LINE_HEIGHT
from batchgen.plan import preview
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.session import Options, preview_lines
from tests.in_process import render_here

SIZES = [(32, 32), (32, 48), (48, 32)]


def rows(count):
    return [{"prompt": f"prompt {i}", "height": SIZES[i % 3][0], "width": SIZES[i % 3][1]} for i in range(count)]


def rendered(prepared, limit=None):
    """Render in this process, without Ray; returns the run and pixel_sha256 by image_id."""
    run, _ = make_plan(prepared, limit)
    render_here(run, prepared.model)
    table = pq.read_table(f"{run.store.url}/data").to_pydict()
    return run, dict(zip(table["image_id"], table["pixel_sha256"], strict=True))


def test_pixels_are_those_of_the_full_run(make_job):
    """Several buckets, a sweep, batches that the preview leaves nearly empty, a bucket smaller than a batch."""
    few = [{"prompt": f"few {i}", "height": 64, "width": 64} for i in range(3)]
    job = make_job(rows(40) + few, sweep={"guidance_scale": [1.0, 3.0, 6.0]}, model={"batch_size": 8})
    _, whole = rendered(prepare(job))
    run, shown = rendered(preview.prepare_preview(job, 17), 17)
    assert len(shown) == 17
    assert shown.items() <= whole.items()
    assert doctor.examine(run).problems == []


def test_a_preview_lies_beside_the_run_and_leaves_it_alone(make_job, tmp_path):
    job = make_job(rows(30))
    prepared = preview.prepare_preview(job, 5)
    assert prepared.store.url == str(tmp_path / "run-preview" / f"5-{prepare(job).fingerprint[:8]}")
    rendered(prepared, 5)
    assert not (tmp_path / "run").exists()
    assert preview.prepare_preview(job, 5).run is not None, "the same command continues it"
    assert preview.prepare_preview(job, 6).run is None, "another limit is another preview"
    dearer = make_job(rows(30), sampling={"num_inference_steps": 7})
    assert preview.prepare_preview(dearer, 5).run is None, "so are other settings"
    with pytest.raises(RunMismatch, match="--limit: there 5, now null"):
        prepare(job.model_copy(update={"output": job.output.model_copy(update={"path": prepared.store.url})}))


def test_a_job_that_cannot_run_has_no_preview(make_job, tmp_path):
    prepared = preview.prepare_preview(make_job([*rows(30), {"prompt": None}, {"prompt": " "}]), 5)
    with pytest.raises(Refused, match="2 problems"):
        make_plan(prepared, 5)
    assert not Path(prepared.store.url).exists()
    make_plan(prepare(make_job(rows(3))))
    with pytest.raises(RunMismatch, match="another plan owns this directory"):
        preview.prepare_preview(make_job(rows(4)), 5)


def test_where_previews_lie():
    assert preview.folder("out/run/") == "out/run-preview"
    assert preview.folder("s3://bucket/a/run") == "s3://bucket/a/run-preview"
    with pytest.raises(Refused, match="is a whole bucket"):
        preview.folder("s3://bucket/")


def test_a_preview_ends_with_its_contact_sheets(make_job):
    job = make_job([*rows(9), {"prompt": "fake:raise"}, {"prompt": "large", "height": 1024, "width": 512}])
    run, _ = rendered(preview.prepare_preview(job, 11), 11)
    said = "\n".join(preview_lines(run, job))
    sheet, page = (Path(run.store.url, name) for name in ("contact_sheet.png", "contact_sheet.html"))
    assert f"To look at it: {sheet} and {page}" in said
    assert re.search(r"Measured on fake: [\d.e-]+ to [\d.e-]+ s per image", said)
    heading = rf"run-preview/{Path(run.store.url).name}: 10 of 11 images, prompts-1\.jsonl, fake, \d{{4}}-\d\d-\d\d"
    with Image.open(sheet) as opened:
        assert opened.size == (
            6 * contact_sheet.CELL[0] + contact_sheet.GAP,
            2 * contact_sheet.CELL[1] + contact_sheet.GAP + LINE_HEIGHT,
        )
    text = page.read_text()
    assert re.search(f"<title>{heading}</title>", text)
    assert text.count("<figure>") == 10
    assert "fake:raise: RENDER_ERROR" in text
    assert len(text) < 300_000, "the large picture is a thumbnail"
    assert doctor.examine(run).problems == []


def test_a_preview_is_of_a_whole_job(make_job, console):
    with pytest.raises(Refused, match="leave out --extend and --retry-failed"):
        session.render(make_job(rows(3)), console, Options(limit=2, retry_failed=True))
