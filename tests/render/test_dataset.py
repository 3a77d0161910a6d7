"""What comes out loads anywhere: `datasets` itself, pandas, pyarrow; with the real tiny pipeline behind it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from batchgen.demo import PROMPTS, demo_job
from batchgen.engines import load_renderer
from batchgen.job.file import load_job
from batchgen.look import again, doctor
from batchgen.rendering.attempt import image_rows
from batchgen.run import images
from batchgen.weights.spec import spec_of

ROOT = Path(__file__).parent.parent.parent


def test_load_dataset_gives_pictures(demo_out, tmp_path):
    import datasets

    by_files = datasets.load_dataset(
        "parquet", data_files=f"{demo_out}/data/*.parquet", split="train", cache_dir=str(tmp_path / "a")
    )
    by_card = datasets.load_dataset(demo_out, split="train", cache_dir=str(tmp_path / "b"))
    for found in (by_files, by_card):
        assert isinstance(found.features["image"], datasets.Image)
        assert len(found) == 28
        picture = found[0]["image"]
        assert isinstance(picture, Image.Image)
        assert (picture.height, picture.width) == (found[0]["height"], found[0]["width"])
    assert by_card["image_id"] == by_files["image_id"]


def test_pandas_and_pyarrow_read_the_metadata(demo_out, demo):
    frame = pd.read_parquet(f"{demo_out}/metadata")
    table = pq.read_table(f"{demo_out}/metadata")
    assert len(frame) == len(table) == demo.totals.planned == 28
    assert set(frame["model_digest"]) == {demo.run.plans[0].model.digest}
    assert frame["error_code"].isna().all()
    assert frame["sigmas"].map(len).eq(29).all()


def test_the_demonstration_has_what_it_is_to_show(demo_out):
    frame = pd.read_parquet(f"{demo_out}/metadata")
    assert frame[["height", "width"]].drop_duplicates().shape[0] == 3
    assert (frame["sample_index"] > 0).any()
    assert (frame["negative_prompt"] != "").any()
    assert frame["guidance_scale"].nunique() > 1
    assert frame["overflow_clip_l"].any()
    assert frame["overflow_t5"].any()
    assert (frame["overflow_clip_l"] & ~frame["overflow_t5"]).any()
    assert frame["truncated_t5"].dropna().iloc[0].endswith("on a blue background")


def test_every_picture_is_that_of_its_own_row(demo_out, demo):
    """Render some rows again in this process, from the stored row alone: no image and row crossed over."""
    report = doctor.examine(demo.run)
    again.rerender(demo.run, 4, report)  # each in a batch of its own, several seconds
    assert (report.problems, report.rerendered) == ([], 4)


def test_a_whole_planned_batch_renders_to_the_same_pixels(demo_out, demo):
    """Not even through batches.py: the renderer itself, given the plan's rows, gives the stored pixels."""
    plan = demo.run.plans[0]
    shard = demo.run.shards(plan)[0]
    rows = demo.run.rows(plan, shard)
    renderer = load_renderer(spec_of(plan))
    todo = image_rows(rows, plan.job)
    assert len(todo) == shard.batch_size
    latents = renderer.denoise(todo, renderer.encode(todo))
    stored = pq.read_table(f"{demo_out}/data/shard-000000.parquet").to_pylist()
    for pixels, row in zip(renderer.decode(latents, range(len(todo))), stored, strict=True):
        assert np.array_equal(images.decode(row["image"]["bytes"]), pixels)


def test_seed_guidance_and_prompt_all_show(demo_out):
    frame = pq.read_table(f"{demo_out}/data").to_pandas()
    assert frame["pixel_sha256"].is_unique
    assert frame["phash"].nunique() > 20


def test_the_job_file_says_what_the_demo_does():
    from_file = load_job(ROOT / "jobs" / "configs" / "demo.yaml").model_dump()
    packaged = demo_job("out/demo").model_dump()
    assert (ROOT / from_file["input"].pop("path")).samefile(PROMPTS)
    packaged["input"].pop("path")
    assert from_file == packaged


def test_the_job_script_is_the_command(demo_out, tmp_path):
    """On a finished run, where neither needs Ray."""
    job = ROOT / "jobs" / "configs" / "demo.yaml"
    commands = ([sys.executable, "jobs/render.py"], [sys.executable, "-m", "batchgen", "render"])
    outputs = [
        subprocess.run(
            [*command, str(job), "--set", f"output.path={demo_out}"], capture_output=True, text=True, cwd=ROOT
        )
        for command in commands
    ]
    assert [done.returncode for done in outputs] == [0, 0]
    assert outputs[0].stdout == outputs[1].stdout
    assert "Everything is rendered already" in outputs[0].stdout


def test_the_job_file_of_the_demonstration_plans():
    """The others need gated weights: tests/models/test_job_files.py plans and renders them with tiny ones."""
    from batchgen.plan.graph import survey
    from batchgen.plan.preflight import prepare

    job = load_job(ROOT / "jobs/configs/demo.yaml")
    local = job.input.model_copy(update={"path": str(ROOT / str(job.input.path))})
    assert survey(prepare(job.model_copy(update={"input": local}))).images > 0


def test_success_says_what_was_proven(demo_out):
    summary = json.loads(Path(demo_out, "_SUCCESS").read_text())
    assert (summary["planned"], summary["images"], summary["failed"]) == (28, 28, 0)
