"""What a job takes of a GPU: against published figures, and what `batchgen plan` says of it."""

from __future__ import annotations

import pytest

from batchgen.cost import fitting, footprint
from batchgen.cost.fitting import Fitting
from batchgen.job import Job
from batchgen.job.file import job_from, load_job
from batchgen.job.presets import DEMO_CHECKPOINT, PRESETS
from batchgen.plan.sharding import BucketCount, Summary
from batchgen.rows.buckets import Bucket
from batchgen.weights import shapes
from batchgen.weights.quantization import stored

GIB = 2**30


def job(cluster=None, refine=None, **model) -> Job:
    sections = {"model": model, "cluster": cluster or {}, "refine": refine}
    return job_from({"input": {"path": "unused"}, "output": {"path": "unused"}} | sections)


def summary_of(found: Job, batch_size=1, height=1024, width=1024, prompts=3) -> Summary:
    key = Bucket.of(
        found.sampling,
        height=height,
        width=width,
        num_inference_steps=28,
        guidance_scale=found.sampling.guidance_scale,
        skip_layer_guidance_scale=0.0,
        max_sequence_length=256,
    )
    count = BucketCount(images=8, shards=1, batch_size=batch_size, tflop=1.0, pixels=8 * height * width, key=key)
    return Summary(prompts=prompts, images=8, buckets={str(key): count})


def predicted(batch_size=1, height=1024, width=1024, **model):
    found = job(**model)
    return Fitting.of(found, summary_of(found, batch_size, height, width)).footprint()


# --- published figures


def test_sd3_medium_as_published():
    """18.765 GB in huggingface's posts on SD3 and on quanto, fp16, all on the GPU: torch's tensors, no CUDA context.

    Whether GB there is 10^9 or 2^30 bytes is not said: 19.1 GB lies between the two, 2 % above and 5 % below. The 10.6
    GB of the same post with T5 in 8 bit is below the weights that are then on the GPU (10.9 GB if all of T5 were in 8
    bit, which transformers does not do): something was not there, so it is no measure of this arithmetic.
    """
    tensors = predicted(preset="sd3-medium", dtype="float16").peak - footprint.CONTEXT
    assert tensors == pytest.approx(18.765e9, rel=0.03)
    assert tensors == pytest.approx(18.765 * GIB, rel=0.06)


def test_medium_on_8_gb_as_its_users_say():
    """6.6 GB: bf16, one image of 1024 × 1024, encoders parked."""
    found = predicted(preset="sd3.5-medium", offload="encoders")
    assert found.peak - footprint.CONTEXT == pytest.approx(6.6e9, rel=0.05)
    assert found.peak < 8e9


# --- how settings move it


def test_every_setting_takes_less_than_the_one_before():
    peaks = [
        predicted(preset="sd3.5-large", offload=offload).peak for offload in ("none", "encoders", "model", "group")
    ]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == 4


def test_parked_encoders_are_never_there_as_a_whole():
    found = shapes.of_preset(PRESETS["sd3.5-medium"])
    t5 = stored("text_encoder_3", found["text_encoder_3"], "bfloat16", None)
    assert t5 == 2 * 4_762_310_656
    assert predicted(preset="sd3.5-medium", offload="model").encoding < t5 / 4
    assert predicted(preset="sd3.5-medium", offload="encoders").resident == 2 * (
        2_243_171_520 + 384**2 * 1536 + 83_819_683
    )


def test_quantized_weights_take_less():
    plain = predicted(preset="sd3.5-large", offload="encoders").resident
    assert plain == 2 * (8_056_627_520 + 192**2 * 2432 + 83_819_683)
    for kind, share in (
        ("bitsandbytes_4bit", 0.3),
        ("bitsandbytes_8bit", 0.52),
        ("torchao_int8", 0.52),
        ("float8", 0.68),
    ):
        found = predicted(preset="sd3.5-large", offload="encoders", quantization={"transformer": kind})
        assert found.resident == pytest.approx(share * plain, rel=0.03), kind


def test_larger_batches_and_pictures_take_more():
    small = predicted(preset="sd3.5-medium")
    assert predicted(4, preset="sd3.5-medium").denoising > small.denoising
    assert predicted(1, 1440, 1440, preset="sd3.5-medium").decoding > small.decoding
    assert predicted(1, 1440, 1440, preset="sd3.5-medium", vae_tiling=True).decoding < small.decoding * 1.01
    assert predicted(preset="sd3.5-medium", vae_tiling=True) == small, "nothing is tiled at 1024 pixels a side"


def test_without_t5_there_is_less():
    plain, without = predicted(preset="sd3.5-medium"), predicted(preset="sd3.5-medium", text_encoder_3=None)
    assert plain.resident - without.resident == 2 * 4_762_310_656


def test_a_second_pass_counts():
    first = predicted(preset="sd3.5-medium", offload="encoders")
    larger = predicted(preset="sd3.5-medium", offload="encoders", refine={"scale": 2.0})
    assert larger.decoding > first.decoding + 4e9
    both = predicted(
        preset="sd3.5-medium", offload="encoders", refine={"scale": 1.0, "model": {"preset": "sd3.5-large"}}
    )
    assert both.peak > first.peak + 16e9


def test_a_directory_is_counted_by_its_headers():
    found = predicted(preset="demo", height=64, width=64)
    held = sum(file.stat().st_size for file in DEMO_CHECKPOINT.rglob("*.safetensors"))
    assert found.resident == pytest.approx(held * 2 - 7_975_024 + 3_843_968 * 2, rel=0.5)
    assert predicted(preset="fake") is None


# --- what plan says


def said(found: Job, batch_size=1, **size):
    return list(fitting.lines(found, summary_of(found, batch_size, **size)))


def test_without_a_card_only_the_peak_is_said():
    (line,) = said(job(preset="sd3.5-medium"))
    assert line == (
        "predicted peak memory of a GPU: 18.4 GB, while decoding (17.0 GB encoding prompts, 17.2 GB denoising)"
    )


def test_a_card_that_is_large_enough():
    assert said(job({"gpu_memory_gb": 24}, preset="sd3.5-medium"))[1:] == [
        "fits a GPU of 24 GB (cluster.gpu_memory_gb)"
    ]


def test_a_card_that_is_too_small_and_what_would_do():
    lines = said(job({"gpu_memory_gb": 8}, preset="sd3.5-medium"))
    assert "does not fit a GPU of 8 GB" in lines[1]
    assert lines[2:] == ["  model.offload: encoders  (7.2 GB, while decoding)"], "the other offloads cost more"


def test_the_largest_batch_that_fits_is_said_once():
    lines = said(job({"gpu_memory_gb": 18}, preset="sd3.5-medium", offload="encoders"), 64, height=1024, width=1024)
    sizes = [line for line in lines if "batch_size" in line]
    assert len(sizes) == 1
    assert "model.batch_size: 8" in sizes[0]


def test_settings_together_where_none_suffices():
    lines = said(job({"gpu_memory_gb": 9}, preset="sd3.5-large"), 2)
    together = [line.split("  (")[0].strip() for line in lines[2:]]
    assert "model.offload: group" in together or any("," in line for line in together)
    found = job({"gpu_memory_gb": 9}, preset="sd3.5-large")
    for text, fits in Fitting.of(found, summary_of(found, 2)).ways_to_fit(9e9):
        assert fits.peak <= 9e9, text


def test_two_settings_at_once(monkeypatch):
    """Encoders parked and a smaller batch: neither is enough alone, and no third setting is named without need."""
    found = job(preset="sd3.5-medium")
    together = Fitting.of(found, summary_of(found, 64))
    limit = together.after([fitting.SAVINGS[0], fitting.SAVINGS[2]]).footprint().peak
    monkeypatch.setattr(fitting, "SAVINGS", fitting.SAVINGS[:5])
    ((text, fits),) = together.ways_to_fit(limit)
    assert text == "model.offload: encoders, model.batch_size: 4"
    assert fits.peak == limit


def test_nothing_helps_a_card_that_is_tiny():
    assert "render smaller images" in said(job({"gpu_memory_gb": 1}, preset="sd3.5-medium"))[1]


# --- job files


@pytest.mark.parametrize(("name", "peak"), [("8gb", 7.3e9), ("nf4", 6.0e9)])
def test_job_files_fit_the_cards_that_they_name(name, peak):
    found = load_job(f"jobs/configs/{name}.yaml")
    counts = summary_of(found)
    assert Fitting.of(found, counts).footprint().peak == pytest.approx(peak, rel=0.05)
    assert "fits a GPU" in list(fitting.lines(found, counts))[1]
