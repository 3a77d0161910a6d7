"""`--limit` and `--max-gpu-hours` on a local Ray, through the command line: what they leave behind, and go on from."""

from pathlib import Path
from uuid import UUID

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from batchgen import session
from batchgen.cli import app
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.rendering import graph
from batchgen.rendering.graph import in_order
from batchgen.run.directory import Run
from batchgen.storage.store import Store

pytestmark = pytest.mark.usefixtures("ray_session")

SIZES = [(32, 32), (32, 48), (48, 32)]


def rows(count, text="prompt"):
    return [{"prompt": f"{text} {i}", "height": SIZES[i % 3][0], "width": SIZES[i % 3][1]} for i in range(count)]


def command(job, tmp_path, *options):
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    done = CliRunner().invoke(app, ["render", str(tmp_path / "job.yaml"), *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output.splitlines()


def pixels(out):
    table = pq.read_table(f"{out}/data").to_pydict()
    return dict(zip(table["image_id"], table["pixel_sha256"], strict=True))


def test_a_preview_and_then_the_run(make_job, tmp_path, console):
    job = make_job(rows(20), sweep={"guidance_scale": [1.0, 4.5]}, errors={"max_failed_fraction": 0.0})
    code, said = command(job, tmp_path, "--limit", "7", "--max-gpu-hours", "1")
    (out,) = (tmp_path / "run-preview").iterdir()
    assert code == 0
    assert f"To look at it: {out}/contact_sheet.png and {out}/contact_sheet.html" in said
    assert said[-1] == "7 planned = 7 images + 0 failed"
    assert not (tmp_path / "run").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    assert "Everything is rendered already; nothing was done." in command(job, tmp_path, "--limit", "7")[1]
    assert {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()} == before
    session.render(job, console)
    shown = pixels(out)
    assert len(shown) == 7
    assert shown.items() <= pixels(job.output.path).items()


def test_a_preview_with_too_many_failures_is_still_shown(make_job, tmp_path):
    code, said = command(make_job(["a", "fake:raise"]), tmp_path, "--limit", "2")
    assert code == 3
    assert any(line.startswith("To look at it") for line in said)


def test_a_budget_stops_the_run_and_the_next_command_goes_on(make_job, tmp_path, console, monkeypatch):
    monkeypatch.setattr(graph.uuid, "uuid4", lambda: UUID(int=7))  # a session's name is the seed of its order
    job = make_job(rows(60, "fake:slow=0.04"), output={"images_per_shard": 4})
    code, said = command(job, tmp_path, "--max-gpu-hours", str(0.5 / 3600))
    run = Run.open(Store.open(job.output.path))
    found = status_of(run)
    assert (code, found.complete, found.failed) == (0, False, 0)
    assert 8 <= found.images < 60
    assert said[-1].startswith("Stopped as asked: ")
    assert f"{found.images} of 60 images are done, a fair sample" in said[-1]
    assert not Path(job.output.path, "_SUCCESS").exists()
    assert list(Path(job.output.path, ".batchgen").glob("stop-*")) == []
    order = [shard.number for shard in in_order(run.shards(run.plans[0]), order=7)]
    assert run.committed() == set(order[: found.committed_shards]), "the first of the shuffled order"
    finished = session.render(job, console)
    assert finished.rendered == 60 - found.images
    assert doctor.examine(run).problems == []
