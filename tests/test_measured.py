"""measured.py and estimate.py: what finished shards say of a job's cost, and that nothing else is taken for it."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.cost import measured
from batchgen.cost.estimate import estimate, lines
from batchgen.cost.measured import Measured, full_batch_seconds
from batchgen.engines.fake import FakeRenderer
from batchgen.job.file import job_from
from batchgen.plan import preview
from batchgen.plan.preflight import prepare
from batchgen.plan.sharding import BucketCount, Summary
from batchgen.rows.buckets import Bucket
from batchgen.run import images
from batchgen.words import size
from tests.test_preview import rendered, rows


def job(**sections):
    given = {"input": {"path": "x"}, "output": {"path": "y"}, "model": {"preset": "fake"}}
    given["cluster"] = {"renderers": {"max_size": 1}}
    return job_from({name: {**given.get(name, {}), **sections.get(name, {})} for name in {*given, *sections}})


def summary():
    buckets = {"small": BucketCount(10, 3, 4, 20.0, 10_000), "large": BucketCount(8, 2, 2, 80.0, 80_000)}
    return Summary(images=18, buckets=buckets)


def measure(**values):
    usual = {"place": "out/run-preview/20-abc", "device": "H100", "seconds": {"small": 100.0}, "tflop_per_s": 0.05,
             "bytes_per_pixel": {"png": 2.0, "webp": 0.2, "jpeg": 0.5}, "peak_memory": 21_300_000_000,
             "cold_start": 41.3}  # fmt: skip
    return Measured(**usual | values)


def test_measured_buckets_cost_what_they_took_and_others_by_their_tflop():
    """Ten images in batches of four are twelve places; eight of 10 TFLOP each at 0.05 TFLOP/s are 1600 s."""
    assert estimate(job(), summary(), measure()).seconds == 12 * 100 + 1600
    assert estimate(job(), summary(), measure(seconds={"small": 100.0, "large": 1.0})).seconds == 12 * 100 + 8
    assert estimate(job(), summary(), None).seconds == 12 * 2 + 80, "the preset of the fake assumes 1 TFLOP/s"


@pytest.mark.parametrize(
    ("cluster", "device_hours", "renderers"),
    [
        ({}, 2800 / 3600, 1),
        ({"num_gpus": 2}, 5600 / 3600, 1),
        ({"num_gpus": 0.5, "renderers": {"max_size": 4}}, 1400 / 3600, 4),
        ({"renderers": {"max_size": 64}}, 2800 / 3600, 5),
    ],
)
def test_hours_and_gpus(cluster, device_hours, renderers):
    found = estimate(job(cluster=cluster), summary(), measure())
    assert (found.device_hours, found.renderers) == (pytest.approx(device_hours), renderers)


def test_what_is_said_of_cost():
    paid = job(cluster={"num_gpus": 1, "renderers": {"max_size": 2}, "price_per_gpu_hour": 3.0})
    whole = summary()
    assert list(lines(paid, whole, measure(), "job.yaml")) == [
        "measured in out/run-preview/20-abc on H100: 100 s per image (1 of 2 buckets are not measured: by their TFLOP)",
        "100 TFLOP, 0.778 GPU-hours: about 23 min on 2 GPUs, 2.33 at 3 per GPU-hour",
        "about 180 kB as PNG, 18 kB as WebP (quality 90), 45 kB as JPEG (quality 95), by the pictures there; this job "
        "stores PNG",
        "peak memory of a renderer: 21.3 GB",
        "cold start of a renderer: 41.3 s until its weights were loaded",
    ]
    first, second, third = lines(job(), whole, None, "my job.yaml")
    assert first.startswith("nothing is measured yet; assumed")
    assert first.endswith("batchgen render my job.yaml --limit 20")
    assert second == "100 TFLOP, 0.0289 renderer-hours: about 2 min on 1 renderer"
    assert "assumed" in third


def test_a_nearly_empty_batch_is_measured_as_a_full_one():
    one_of_four = pa.table({"batch_size": [4], "render_seconds": [8.0]})
    five_of_eight = pa.table({"batch_size": [4] * 5, "render_seconds": [2.0] * 4 + [8.0]})
    split = pa.table({"batch_size": [2] * 4, "render_seconds": [1.0] * 4})
    assert [full_batch_seconds(table) for table in (one_of_four, five_of_eight, split)] == [2.0, 2.0, 1.0]


def test_a_preview_is_found_and_its_speed_is_that_of_full_batches(make_job, monkeypatch):
    original = FakeRenderer.denoise
    monkeypatch.setattr(FakeRenderer, "denoise", lambda *a: (time.sleep(1.0), original(*a))[1])
    monkeypatch.setattr(FakeRenderer, "peak_memory", lambda self: 5000)
    whole = make_job(rows(40))
    assert measured.find(prepare(whole)) is None
    rendered(preview.prepare_preview(whole, 3), 3)
    found = measured.find(prepare(whole))
    assert (found.device, found.peak_memory, len(found.seconds)) == ("fake", 5000, 3)
    assert 0 <= found.cold_start < 60
    assert all(0.25 <= each < 1.0 for each in found.seconds.values()), "batches of four with one row each"
    bucket = Bucket.of(whole.sampling, height=32, width=32, num_inference_steps=4, guidance_scale=4.5,
                       skip_layer_guidance_scale=0, max_sequence_length=64)  # fmt: skip
    assert str(bucket) in found.seconds


def test_of_several_measurements_the_nearest_counts(make_job, tmp_path):
    whole, other = make_job(rows(12)), make_job(rows(12), sampling={"num_inference_steps": 7})
    elsewhere = make_job(rows(12), model={"preset": "fake", "dtype": "bfloat16"})

    def place(of):
        found = measured.find(prepare(of))
        return found and found.place.removeprefix(f"{tmp_path}/")

    mine, _ = rendered(preview.prepare_preview(whole, 3), 3)
    theirs, _ = rendered(preview.prepare_preview(other, 3), 3)
    assert place(whole) == str(mine.store).removeprefix(f"{tmp_path}/"), "its own before a newer one"
    newest, _ = rendered(preview.prepare_preview(make_job(rows(12), sampling={"num_inference_steps": 9}), 3), 3)
    assert place(make_job(rows(13))) == str(newest.store).removeprefix(f"{tmp_path}/"), "the newest of others"
    assert place(elsewhere) is None, "another dtype says nothing"
    (tmp_path / "run-preview" / "3-damaged" / ".batchgen").mkdir(parents=True)
    (tmp_path / "run-preview" / "3-damaged" / ".batchgen" / "plan-000.json").write_text("{")
    assert place(whole) == str(mine.store).removeprefix(f"{tmp_path}/")
    rendered(prepare(whole))
    assert place(whole) == "run", "the run itself before any preview"
    assert theirs.store.url != newest.store.url


def test_bytes_are_those_of_the_pictures(make_job):
    whole = make_job(rows(1), output={"image_format": "jpeg", "image_quality": 60})
    run, _ = rendered(prepare(whole))
    with run.store.open_file("data/shard-000000.parquet") as file:
        stored = pq.read_table(file)["image"][0].as_py()["bytes"]
    found = measured.measure(run, whole.output).bytes_per_pixel
    pixels = images.decode(stored)
    count = pixels.shape[0] * pixels.shape[1]
    assert found["png"] * count == pytest.approx(len(images.encode(pixels, "png")))
    assert found["webp"] * count == pytest.approx(len(images.encode(pixels, "webp", 60)))
    assert found["jpeg"] * count == pytest.approx(len(stored))
    path = Path(run.store.url, "data", "shard-000000.parquet")
    data = path.read_bytes()
    path.write_bytes(data.replace(stored, bytes(len(stored))))
    broken = measured.measure(run, whole.output)
    assert broken.bytes_per_pixel == {}, "a damaged picture says nothing, and the speed is still known"
    assert list(lines(whole, summary(), broken, "job.yaml"))[2].startswith("about 180 kB as PNG")


def test_plan_says_how_to_measure_and_then_what_was_measured(make_job, tmp_path):
    whole = make_job(rows(12))
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(whole.model_dump(mode="json")))

    def said():
        done = CliRunner().invoke(app, ["plan", str(path)])
        assert done.exit_code == 0, done.output
        return done.output

    assert f"To measure: batchgen render {path} --limit 20" in said()
    run, _ = rendered(preview.prepare_preview(whole, 4), 4)
    assert f"measured in {run.store} on fake: " in said()
    assert "by the pictures there" in said()


def test_sizes_in_words():
    assert [size(n) for n in (0, 999, 1000, 2.1e9, 5e15)] == ["0 B", "999 B", "1 kB", "2.1 GB", "5e+03 TB"]
