"""The whole way on a local Ray with the fake renderer: promises P1 and P2, failures as rows, resume."""

import itertools
import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen import session
from batchgen.errors import Refused, RunMismatch, TooManyFailures
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.look import again, doctor
from batchgen.look.status import status_of
from batchgen.plan import preflight
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.rendering.graph import missing, receipts_of
from batchgen.rendering.worker import Orders
from batchgen.run.directory import Run
from batchgen.run.layout import data_path
from batchgen.storage.store import Store

PARTI = Path(__file__).parents[1] / "samples" / "partiprompts.tsv"

pytestmark = pytest.mark.usefixtures("ray_session")

SIZES = [(32, 32), (32, 48), (48, 32)]


def mixed_rows(count, **values):
    rows = [
        {"prompt": f"prompt {i}", "height": SIZES[i % 3][0], "width": SIZES[i % 3][1], **values} for i in range(count)
    ]
    random.Random(1).shuffle(rows)
    return rows


def images(job):
    return pq.read_table(f"{job.output.path}/data")


def pixels(job):
    table = images(job)
    return dict(zip(table["image_id"].to_pylist(), table["pixel_sha256"].to_pylist(), strict=True))


def test_the_main_path(make_job, console):
    rows = mixed_rows(10, num_images_per_prompt=3, subject="cats")
    job = make_job(rows, output={"images_per_shard": 4})
    finished = session.render(job, console)
    assert (finished.totals.images, finished.totals.failed, finished.rendered) == (30, 0, 30)
    table = images(job)
    assert len(set(table["image_id"].to_pylist())) == 30
    assert [row["path"] for row in table["image"].to_pylist()] == [
        f"{name}.png" for name in table["image_id"].to_pylist()
    ]
    assert table["subject"].to_pylist() == ["cats"] * 30
    metadata = pd.read_parquet(f"{job.output.path}/metadata")
    assert set(metadata["image_id"]) == set(table["image_id"].to_pylist())
    assert set(metadata["status"]) == {"ok"}
    assert metadata["sigmas"][0][0] == 1.0
    assert json.loads(metadata["versions"][0])["batchgen"]
    report = doctor.examine(finished.run)
    again.rerender(finished.run, 5, report)
    assert (report.problems, report.rerendered) == ([], 5)
    assert status_of(finished.run).complete
    before = {path: path.stat().st_mtime_ns for path in Path(job.output.path).rglob("*")}
    assert session.render(job, console).rendered == 0
    now = {path: path.stat().st_mtime_ns for path in Path(job.output.path).rglob("*")}
    assert now == before, "running it again touches nothing"


def test_nothing_but_the_row_decides_an_image(make_job, console):
    """P2: order of the manifest, shard size, number of renderers and a resume change no pixel."""
    rows = mixed_rows(14, num_images_per_prompt=2, negative_prompt="x")
    reference = make_job(rows, out="one", output={"images_per_shard": 4})
    session.render(reference, console)
    shuffled = random.Random(5).sample(rows, len(rows))
    other = make_job(
        shuffled, out="two", output={"images_per_shard": 8}, cluster={"renderers": {"min_size": 2, "max_size": 2}}
    )
    run, _ = make_plan(prepare(other))
    session.render(other, console)
    assert pixels(other) == pixels(reference)
    for number in sorted(run.committed())[::2]:
        run.store.delete(data_path(number))
    halfway = status_of(run)
    assert (halfway.complete, halfway.images + halfway.missing) == (False, 28)
    resumed = session.render(other, console)
    assert 0 < resumed.rendered < 28
    assert pixels(other) == pixels(reference)


def test_a_failing_row_is_a_row(make_job, console):
    rows = mixed_rows(12) + [{"prompt": f"fake:{kind}"} for kind in ("raise", "nan", "oom>0")]
    rows += [{"prompt": "fake:vae-nan"}, {"prompt": "fake:flat"}]
    job = make_job(rows, errors={"max_failed_fraction": 0.5})
    finished = session.render(job, console)
    assert (finished.totals.images, finished.totals.failed, finished.totals.suspect) == (14, 3, 1)
    metadata = pd.read_parquet(f"{job.output.path}/metadata").set_index("prompt")
    assert metadata.loc["fake:raise", "error_code"] == "RENDER_ERROR"
    assert "fake:raise was asked for" in metadata.loc["fake:raise", "error_message"]
    assert metadata.loc["fake:nan", "error_code"] == "NAN_LATENTS"
    assert metadata.loc["fake:oom>0", "error_code"] == "OUT_OF_MEMORY"
    assert metadata.loc["fake:flat", "suspect"] == "uniform"
    assert (metadata["status"] == "ok").sum() == 14
    assert doctor.examine(finished.run).problems == []


def test_split_batches_are_recorded(make_job, console):
    job = make_job(["fake:oom>2", *"bcdefgh"])
    finished = session.render(job, console)
    table = images(job)
    assert set(table["planned_batch_size"].to_pylist()) == {4}
    assert set(table["batch_size"].to_pylist()) == {2}
    assert finished.totals.split == 8


def test_too_many_failures_end_with_three_after_everything_is_written(make_job, console):
    job = make_job(["fake:raise", "b"])
    with pytest.raises(TooManyFailures, match="1 of 2 images failed") as error:
        session.render(job, console)
    assert error.value.exit_code == 3
    assert len(pd.read_parquet(f"{job.output.path}/metadata")) == 2
    tolerant = job.model_copy(update={"errors": job.errors.model_copy(update={"max_failed_fraction": 0.5})})
    assert session.render(tolerant, console).rendered == 0, "a raised limit needs no new run"
    with pytest.raises(TooManyFailures):
        session.render(tolerant, console, session.Options(strict=True))


def test_a_row_that_kills_its_process_fails_alone(make_job, console):
    job = make_job(["a", "b", "fake:die", "d"], errors={"max_failed_fraction": 1.0})
    finished = session.render(job, console)
    metadata = pd.read_parquet(f"{job.output.path}/metadata").set_index("prompt")
    assert metadata.loc["fake:die", "error_code"] == "KILLS_WORKER"
    assert finished.totals.images == 3
    assert set(metadata["attempt"].dropna()) == {7.0}, "two deaths in company, four alone"


def test_another_job_on_the_same_directory_is_refused(make_job, console):
    make_plan(prepare(make_job(["a"])))
    with pytest.raises(RunMismatch, match=r"sampling.guidance_scale: there 4.5, now 7.0"):
        session.render(make_job(["a"], sampling={"guidance_scale": 7.0}), console)
    with pytest.raises(RunMismatch, match="content of the manifest"):
        session.render(make_job(["b"]), console)


def test_skipped_rows_stay_in_the_books(make_job, console):
    rows = ["a", {"prompt": None}, {"prompt": "c", "height": -5, "width": 16}]
    job = make_job(rows, errors={"bad_rows": "skip", "max_failed_fraction": 1.0})
    finished = session.render(job, console)
    assert (finished.totals.images, finished.totals.failed) == (1, 2)
    metadata = pd.read_parquet(f"{job.output.path}/metadata")
    assert sorted(metadata["error_code"].dropna()) == ["BAD_SIZE", "NULL_PROMPT"]
    assert doctor.examine(finished.run).problems == []
    session.render(make_job(rows, errors={"bad_rows": "refuse", "max_failed_fraction": 1.0}), console)
    assert "errors.bad_rows stays skip, as when this run was planned" in console.file.getvalue()


def test_an_empty_manifest_is_an_empty_dataset(make_job, console, tmp_path):
    pq.write_table(
        pa.table({"prompt": pa.array([], pa.string()), "topic": pa.array([], pa.string())}), tmp_path / "0.parquet"
    )
    job = make_job([], input={"path": str(tmp_path / "0.parquet")})
    finished = session.render(job, console)
    assert finished.totals.planned == 0
    metadata = pd.read_parquet(f"{job.output.path}/metadata")
    assert (len(metadata), "status" in metadata) == (0, True)
    assert doctor.examine(finished.run).problems == []


def test_cells_of_a_sweep_share_their_seeds(make_job, console):
    job = make_job(["a", "b"], sweep={"guidance_scale": [3.0, 6.0]}, sampling={"num_images_per_prompt": 2})
    session.render(job, console)
    table = images(job).to_pandas()
    assert sorted(table["cell"].unique()) == ["guidance_scale=3.0", "guidance_scale=6.0"]
    assert (table.groupby(["prompt_id", "sample_index"])["seed"].nunique() == 1).all()
    assert table["image_id"].is_unique


def test_a_pool_grows_to_its_largest_size(make_job, console):
    rows = [f"fake:slow=0.4 {i}" for i in range(40)]
    job = make_job(
        rows, output={"images_per_shard": 4}, cluster={"renderers": {"min_size": 1, "max_size": 2}, "num_cpus": 1}
    )
    prepared = prepare(job)
    run, _ = make_plan(prepared)
    plan = run.plans[0]
    orders = Orders(url=run.store.url, plan=plan.plan, session="s")
    receipts = list(receipts_of(job, missing(run, plan), orders))
    assert sum(receipt.images for receipt in receipts) == 40
    assert len({receipt.renderer for receipt in receipts}) == 2


def test_plan_on_ray_equals_plan_in_process(make_job, console, tmp_path, monkeypatch):
    """Many rows in two files are planned by Ray tasks, few in this process: the same rows in the same order."""
    monkeypatch.setattr(preflight, "SOURCE_ROWS", 500)
    rows = mixed_rows(600, num_images_per_prompt=2)
    rows += rows[:3]  # repeats, which only the driver can number
    whole = make_job(rows, out="whole")
    bounds = [0, 400, 401, 420, 421, 590, 603]  # the first pieces take longest, so that out of order would show
    (tmp_path / "parts").mkdir()
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        lines = "".join(json.dumps(row) + "\n" for row in rows[start:stop])
        (tmp_path / "parts" / f"{number}.jsonl").write_text(lines)
    parts = make_job(rows, out="parts-run", input={"path": str(tmp_path / "parts")})
    plans = [make_plan(prepare(job))[0] for job in (whole, parts)]
    tables = []
    for run in plans:
        shards = [run.rows(run.plans[0], shard) for shard in run.shards(run.plans[0])]
        tables.append([rows.drop_columns(["source_file", "source_row"]) for rows in shards])
    assert [t.to_pylist() for t in tables[0]] == [t.to_pylist() for t in tables[1]]


def test_of_two_planners_one_plan_counts(make_job, console):
    job = make_job([f"prompt {i}" for i in range(12)], output={"images_per_shard": 4})
    first, second = prepare(job), prepare(job)
    run, _ = make_plan(first)
    loser, _ = make_plan(second)
    assert len(list(Path(job.output.path, ".batchgen", "plan").iterdir())) == 1, "the loser takes its files back"
    assert loser.plans[0].plan == run.plans[0].plan
    session.render(job, console)
    assert session.render(job, console).rendered == 0
    assert doctor.examine(Run.open(Store.open(job.output.path))).problems == []


def test_a_damaged_file_among_several_is_one_message(make_job, tmp_path, monkeypatch):
    """Planning goes through Ray here, whose tracebacks are not for people."""
    monkeypatch.setattr(preflight, "SOURCE_ROWS", 0)
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(2):
        table = pa.table({"prompt": [f"prompt {i}" for i in range(2000)]})
        pq.write_table(table, folder / f"{number}.parquet", write_page_checksum=True, compression="none")
    data = bytearray((folder / "1.parquet").read_bytes())
    data[200] ^= 1
    (folder / "1.parquet").write_bytes(bytes(data))
    job = make_job([], input={"path": str(folder)})
    with pytest.raises(Refused) as error:
        make_plan(prepare(job))
    assert str(error.value).startswith("1.parquet")
    assert "Traceback" not in str(error.value)
    assert not Path(job.output.path).exists()


def test_a_shard_of_failures_only_loads_like_any_other(make_job, console, tmp_path):
    import datasets

    rows = ["fake:raise 1", "fake:raise 2", "fake:raise 3", "fake:raise 4", "a"]
    job = make_job(rows, output={"images_per_shard": 4}, errors={"max_failed_fraction": 1.0})
    finished = session.render(job, console)
    assert (finished.totals.images, finished.totals.failed) == (1, 4)
    found = datasets.load_dataset(job.output.path, split="train", cache_dir=str(tmp_path / "cache"))
    assert found["prompt"][:] == ["a"]


def test_moved_weights_continue_the_run(make_job, console, tmp_path):
    """The digest decides, not the path."""
    weights = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "one")
    model = {"preset": "demo", "pretrained_model_name_or_path": str(weights)}
    job = make_job(["a", "b"], model=model, sampling={"num_inference_steps": 1}, output={"images_per_shard": 1})
    make_plan(prepare(job))
    weights.rename(tmp_path / "two")
    moved = job.model_copy(
        update={"model": job.model.model_copy(update={"pretrained_model_name_or_path": str(tmp_path / "two")})}
    )
    assert session.render(moved, console).totals.images == 2


def test_columns_of_partiprompts_reach_the_output(make_job, console, tmp_path):
    header, *lines = PARTI.read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=False)) for line in lines]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parti.parquet")
    job = make_job([], input={"path": str(tmp_path / "parti.parquet"), "columns": {"Prompt": "prompt"}})
    session.render(job, console)
    for folder in ("data", "metadata"):
        found = pq.read_table(f"{job.output.path}/{folder}").select(["prompt", "Category", "Challenge"]).to_pylist()
        assert {tuple(row.values()) for row in found} == {(r["Prompt"], r["Category"], r["Challenge"]) for r in rows}


def test_a_run_is_extended_and_its_failures_tried_again_at_once(make_job, console, tmp_path):
    job = make_job(["a", f"fake:until={tmp_path}/there"], errors={"max_failed_fraction": 1.0})
    session.render(job, console)
    (tmp_path / "there").write_text("")
    larger = make_job(["a", f"fake:until={tmp_path}/there", "c"])
    finished = session.render(larger, console, session.Options(extend=True, retry_failed=True))
    assert (finished.rendered, finished.totals.images, finished.totals.failed) == (2, 3, 0)
    said = console.file.getvalue()
    assert "1 images are new, 2 were planned before" in said
    assert "1 failed images are tried again" in said
    assert doctor.examine(finished.run).problems == []
