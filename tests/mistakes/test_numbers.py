"""Mistakes 52 to 67: sizes, steps, guidance, seeds, counts, and what no column can say."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from batchgen.columns import MAX_IMAGES_PER_PROMPT, MAX_SEED
from batchgen.errors import Refused
from batchgen.job.file import job_from
from tests.mistakes.test_prompts_and_ids import printed

SIZES = "write sides that make 65,536 to 2,097,152 pixels, none above 6144, at most 4:1"
MEDIUM = {"preset": "sd3.5-medium"}  # its limits; no weights are looked for where a job is refused


def sized(height, width):
    return {"prompt": "x", "height": height, "width": width}


@pytest.mark.parametrize(
    ("height", "width"), [(0, 512), (512, 0), (-512, 512), (-16, -16), (100_000, 512), (100_000, 100_000), (8192, 16)]
)
def test_52_53_sides_that_no_picture_has(bad_row, height, width):
    says = f"column height and width are {height} × {width}: write sides that make 256 to 2,097,152 pixels"
    bad_row(sized(height, width), "BAD_SIZE", says, "none above 4096")


def test_53_sides_beyond_any_integer(bad_row):
    bad_row(sized(2**70, 512), "BAD_SIZE", "column height is", "which is too large")
    bad_row(sized(2**62, 2**62), "BAD_SIZE", "column height and width are")


def test_53_a_size_in_the_job_comes_with_the_other_problems(put, outcome, tmp_path):
    found = outcome(tmp_path / "in" / "none.parquet", sampling={"height": 4096}, sweep={"width": [64, 4096]})
    assert [problem.where.split("/")[0] for problem in found.problems] == [
        "input.path ",
        "sweep: cell width=64",
        "sweep: cell width=4096",
    ]
    assert "4096 × 64 cannot be made: write sides" in found.problems[1].message


def test_54_sides_between_multiples_of_16(put, accepted):
    """Snapped to the nearest multiple; what was asked for is a column, and how many there are is said before paying."""
    found = accepted(put([sized(100, 60), sized(64, 64)]))
    sides = ("height", "width", "requested_height", "requested_width")
    assert [tuple(image[side] for side in sides) for image in found.images] == [(96, 64, 100, 60), (64, 64, None, None)]
    assert found.summary.snapped == 1
    assert "1 images have a size that is no multiple of 16; the nearest one is taken" in printed(found)


@pytest.mark.parametrize(("side", "other"), [("height", "width"), ("width", "height")])
def test_55_one_side_alone(bad_row, put, accepted, side, other):
    bad_row({"prompt": "x", side: 64}, "BAD_SIZE", f"column {side} stands without {other}: give both, or aspect_ratio")
    [image] = accepted(put([{"prompt": "x", side: 64, "aspect_ratio": "1:1"}])).images
    assert image[other] == 64


@pytest.mark.parametrize("row", [sized(64, 272), sized(272, 64)], ids=["wide", "high"])
def test_56_too_long_a_shape(bad_row, put, accepted, row):
    bad_row(row, "BAD_SIZE", "at most 4:1")
    bad_row({"prompt": "x", "aspect_ratio": "17:4"}, "BAD_ASPECT_RATIO", "column aspect_ratio", "from 1:4 to 4:1")
    assert len(accepted(put([sized(64, 256)])).images) == 1


def test_57_sizes_in_other_words(put, accepted, refused, bad_row):
    """A column of text is refused; in lines, where each value has its own type, the row is."""
    found = [
        accepted(put({"prompt": ["x", "y"], "height": [64.0, None], "width": [64.0, None]}, "a.parquet")),
        accepted(put([sized(64.0, 6.4e1), {"prompt": "y"}])),
        accepted(put("prompt,height,width\nx,64.0,64\ny,,\n", "a.csv")),
    ]
    assert [[image["height"] for image in one.images] for one in found] == [[64, 64]] * 3
    refused(put({"prompt": ["x"], "height": ["64"]}, "b.parquet"), "column height holds string: write integers")
    bad_row(sized("1024x1024", 64), "BAD_VALUE", "column height is '1024x1024', not an integer")
    bad_row(sized(64.5, 64), "BAD_VALUE", "column height is 64.5, not an integer")
    bad_row(None, "BAD_VALUE", "'64x64'", table="prompt,width\nx,\ny,64x64\nz,\n", name="a.csv")


def test_58_very_many_sizes(put, accepted):
    """Not refused above any number: each costs one short batch, and the plan says so before anybody pays."""
    sizes = [(height, width) for height in range(128, 512, 16) for width in range(128, 512, 16)]
    found = accepted(put([sized(height, width) for height, width in sizes] + [sized(512, 512)] * 3))
    assert len(found.summary.buckets) == len(sizes) + 1
    text = printed(found)
    assert f"and {len(sizes) + 1 - 64} smaller buckets. No two share a batch" in text
    assert "write fewer sizes (aspect_ratio helps)" in text
    assert sum("steps=" in line for line in text.splitlines()) == 64
    assert "512x512" in text
    assert "smaller buckets" not in printed(accepted(put([sized(64, 64), sized(96, 64)])))


@pytest.mark.parametrize("steps", [0, -1, 201, 10**9, 2**40])
def test_59_60_steps(bad_row, steps):
    says = f"column num_inference_steps is {steps}: write integers from 1 to 200"
    bad_row({"prompt": "x", "num_inference_steps": steps}, "BAD_STEPS", says)


@pytest.mark.parametrize("column", ["guidance_scale", "skip_layer_guidance_scale"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -5.0, 1e6, 1e300])
def test_61_62_guidance(bad_row, column, value):
    says = f"column {column} is {value}: write numbers from 0 to 50.0"
    steps = {"num_inference_steps": 20}  # of four, skip-layer guidance would be on in none
    bad_row({"prompt": "x", column: value}, "BAD_GUIDANCE", says, sampling=steps)
    table = {"prompt": ["a", "b", "c"], column: [1.0, value, None]}
    bad_row(None, "BAD_GUIDANCE", says, table=table, sampling=steps)
    table = f"prompt,{column}\na,1\nb,{value}\nc,\n"
    bad_row(None, "BAD_GUIDANCE", says, table=table, name="a.csv", sampling=steps)


@pytest.mark.parametrize("seed", [-1, -(2**63)])
def test_63_a_negative_seed(bad_row, seed):
    says = f"column seed is {seed}: write integers from 0 to {MAX_SEED}"
    bad_row({"prompt": "x", "seed": seed}, "BAD_SEED", says)
    bad_row(None, "BAD_SEED", says, table={"prompt": ["a", "b", "c"], "seed": [1, seed, None]})


def test_64_a_seed_that_is_too_large(bad_row):
    """A column of floats is no mistake: pandas makes one of integers with gaps. Only what a float cannot hold is."""
    says = "column seed is 9223372036854775808: write integers from 0 to 9223372036854775807, such as 0"
    bad_row({"prompt": "x", "seed": 2**63}, "BAD_SEED", says)
    bad_row(None, "BAD_SEED", says, table={"prompt": ["a", "b", "c"], "seed": pa.array([1, 2**63, 3], pa.uint64())})
    says = "column seed is 1e+20, too large for a float: write integers"
    bad_row({"prompt": "x", "seed": 1e20}, "BAD_SEED", says)
    bad_row(None, "BAD_SEED", says, table={"prompt": ["a", "b", "c"], "seed": [1.0, 1e20, None]})
    bad_row(None, "BAD_SEED", says, table="prompt,seed\na,1\nb,1e20\nc,3.0\n", name="a.csv")


def test_64_a_seed_that_its_samples_carry_too_far(bad_row, put, accepted):
    row = {"prompt": "x", "seed": MAX_SEED, "num_images_per_prompt": 2}
    bad_row(row, "BAD_SEED", "which with sample_index passes", "write its remainder by 2^32")
    assert len(accepted(put([row | {"seed": MAX_SEED % 2**32}])).images) == 2
    assert accepted(put([{"prompt": "x", "seed": MAX_SEED}])).images[0]["seed"] == MAX_SEED


def test_65_no_seed(put, accepted):
    rows = {"prompt": ["x", "y"], "seed": [None, 3]}
    first, second = accepted(put(rows, "a.parquet")).images
    assert (first["seed_derived"], second["seed_derived"], second["seed"]) == (True, False, 3)
    assert first["seed"] == accepted(put({"prompt": ["x"]}, "b.parquet")).images[0]["seed"]


@pytest.mark.parametrize("count", [0, -1, MAX_IMAGES_PER_PROMPT + 1, 10**6])
def test_66_images_of_a_prompt(bad_row, count):
    """Up to 10,000, not 64: samples of one prompt are a dataset that people ask for, and shards divide them."""
    says = f"column num_images_per_prompt is {count}: write integers from 1 to 10000"
    bad_row({"prompt": "x", "num_images_per_prompt": count}, "BAD_NUM_IMAGES", says)


@pytest.mark.parametrize("column", ["scheduler", "sampler", "Scheduler"])
def test_67_a_scheduler(put, accepted, column):
    """Nothing is ever loaded by a name in a row. The column passes through, and a note says that it is idle."""
    found = accepted(put([{"prompt": "x", column: "os.system"}]))
    assert found.images[0][column] == "os.system"
    says = f"Column {column} passes through and changes no image: batchgen sets no {column.lower()} per row."
    assert found.notices == [says]
    assert says in printed(found)


@pytest.mark.parametrize("section", ["model", "sampling"])
def test_67_a_scheduler_in_the_job(section):
    with pytest.raises(Refused, match=rf"job: {section}\.scheduler: unknown key"):
        job_from({"input": {"path": "a"}, "output": {"path": "b"}, section: {"scheduler": "os.system"}})
