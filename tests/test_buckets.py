"""Snapping, bucket keys, costs against counted FLOPs, batch sizes and shard sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.job.file import job_from
from batchgen.job.presets import PRESETS
from batchgen.job.steps import skip_layer_steps, snap, snap_side
from batchgen.rows import buckets
from batchgen.rows.buckets import Bucket

MEDIUM = PRESETS["sd3.5-medium"]
SAMPLING = job_from({"input": {"path": "p.jsonl"}, "output": {"path": "out"}}).sampling


def bucket(side=1024, steps=40, guidance=4.5, skip=2.8, length=256):
    return Bucket.of(
        SAMPLING,
        height=side,
        width=side,
        num_inference_steps=steps,
        guidance_scale=guidance,
        skip_layer_guidance_scale=skip,
        max_sequence_length=length,
    )


@pytest.mark.parametrize(
    ("side", "snapped"), [(1024, 1024), (1080, 1088), (1079, 1072), (1000, 1008), (999, 992), (1, 16), (16, 16)]
)
def test_sides_snap_to_the_nearest_multiple_of_16(side, snapped):
    assert snap(side, 16) == (snapped, 16)
    assert snap_side(np.array([side])).tolist() == [snapped]


@given(st.integers(1, 100_000))
def test_snapping_moves_a_side_by_at_most_half_a_step(side):
    snapped = snap_side(side)
    assert snapped % 16 == 0
    assert abs(snapped - side) <= 8 or snapped == 16
    assert snap_side(snapped) == snapped
    assert snap_side(np.array([side, side])).tolist() == [snapped, snapped]


def test_the_key_says_what_images_of_a_batch_share():
    assert str(bucket()) == "1024x1024 steps=40 guidance=on slg=7,8,9@0.01-0.2 t5=256"
    assert str(bucket(skip=0)) == "1024x1024 steps=40 guidance=on slg=off t5=256"
    assert str(bucket(guidance=1.0)) == "1024x1024 steps=40 guidance=off slg=off t5=256"


def test_scales_may_differ_within_a_bucket():
    assert bucket(guidance=3.0, skip=1.0) == bucket(guidance=7.0, skip=2.8)


# Counted with torch's FlopCounterMode on the architecture of Stable Diffusion 3.5 Medium, 333 text tokens.
@pytest.mark.parametrize(
    ("side", "tflop", "skipping"), [(512, 2.44, 2.10), (768, 5.59, 4.79), (1024, 11.25, 9.59), (1440, 29.17, 24.76)]
)
def test_a_forward_pass_costs_what_was_counted(side, tflop, skipping):
    assert buckets.forward_tflop(MEDIUM, side, side, 256) == pytest.approx(tflop, rel=0.01)
    assert buckets.forward_tflop(MEDIUM, side, side, 256, skipped=3) == pytest.approx(skipping, rel=0.01)


@pytest.mark.parametrize(("side", "tflop"), [(512, 7.98), (768, 16.77), (1024, 31.12), (1440, 71.76), (2048, 193.5)])
def test_large_has_no_second_attention(side, tflop):
    """Counted in the same way."""
    assert buckets.forward_tflop(PRESETS["sd3.5-large"], side, side, 256) == pytest.approx(tflop, rel=0.01)


@pytest.mark.parametrize(("length", "tflop"), [(77, 10.78), (256, 11.25), (512, 11.93)])
def test_longer_prompts_cost_more(length, tflop):
    assert buckets.forward_tflop(MEDIUM, 1024, 1024, length) == pytest.approx(tflop, rel=0.01)


@pytest.mark.parametrize(
    ("side", "steps", "tflop"),
    [(512, 40, 217.6), (768, 28, 347.8), (768, 40, 491.5), (1024, 28, 693.4), (1024, 40, 982.6), (1440, 40, 2533.6)],
)
def test_an_image_costs_what_was_counted(side, steps, tflop):
    """The counted figures include encoding both prompts, 5 TFLOP, which we leave out."""
    assert buckets.image_tflop(MEDIUM, bucket(side, steps)) == pytest.approx(tflop, rel=0.03)


def test_guidance_doubles_the_denoising():
    plain, guided = bucket(guidance=1.0), bucket(skip=0)
    decode = MEDIUM.decode_tflop_per_megapixel * 1024 * 1024 / 1e6
    assert buckets.image_tflop(MEDIUM, guided) - decode == pytest.approx(
        2 * (buckets.image_tflop(MEDIUM, plain) - decode)
    )


@pytest.mark.parametrize(("steps", "extra"), [(28, 5), (40, 7), (20, 3)])
def test_skip_layer_guidance_adds_a_pass_in_its_window_only(steps, extra):
    assert len(skip_layer_steps(steps, 0.01, 0.2)) == extra


@pytest.mark.parametrize(
    ("side", "rows", "size"),
    [(512, 1000, 16), (1024, 1000, 4), (1440, 1000, 2), (512, 16, 16), (512, 15, 16), (512, 5, 8), (512, 1, 1)],
)
def test_batch_sizes_come_from_the_preset_and_shrink_for_few_rows(side, rows, size):
    assert buckets.batch_size(MEDIUM, side, side, rows) == size


def test_the_job_may_fix_the_batch_size():
    assert buckets.batch_size(MEDIUM, 1024, 1024, 1000, fixed=3) == 3
    assert buckets.batch_size(MEDIUM, 1024, 1024, 2, fixed=3) == 2
    assert buckets.batch_size(MEDIUM, 1024, 1024, 3, fixed=3) == 3


@given(
    st.sampled_from([256, 512, 1024, 1440]), st.integers(1, 200), st.integers(1, 16), st.sampled_from(sorted(PRESETS))
)
def test_a_shard_is_whole_batches_within_its_limits(side, steps, size, preset):
    settings = PRESETS[preset]
    tflop = buckets.image_tflop(settings, bucket(side, steps))
    images = buckets.images_per_shard(settings, side, side, tflop, size)
    assert images >= size
    assert images % size == 0
    if images > size:
        assert images <= buckets.SHARD_IMAGES
        assert images * side * side * settings.png_bytes_per_pixel <= buckets.SHARD_BYTES
        assert images * tflop / settings.tflop_per_s <= buckets.SHARD_SECONDS


def test_a_shard_takes_about_ninety_seconds():
    tflop = buckets.image_tflop(MEDIUM, bucket())
    images = buckets.images_per_shard(MEDIUM, 1024, 1024, tflop, 4)
    assert 75 <= images * tflop / MEDIUM.tflop_per_s <= 90
