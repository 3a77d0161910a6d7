"""Prompts that an encoder cuts: kept, skipped or refused, as the job says."""

import pytest

from batchgen.job import Errors
from batchgen.rows.expand import refused


def overflowing(expand, **policy):
    long, medium = "red circle " * 200, "red circle " * 50
    return expand(
        [{"prompt": "x"}, {"prompt": medium}, {"prompt": long}],
        sampling={"num_images_per_prompt": 2},
        errors={"on_overflow": policy},
    )


def test_cut_prompts_are_kept_by_default(expand):
    table = overflowing(expand)
    assert table["skip_code"].null_count == 6
    assert table["overflow_t5"].to_pylist() == [False] * 4 + [True] * 2
    assert table["truncated_clip_l"].to_pylist()[2] == "circle " + "red circle " * 12


@pytest.mark.parametrize("wish", ["skip", "refuse"])
def test_cut_prompts_may_be_unwanted(expand, wish):
    clip, t5 = overflowing(expand, clip=wish), overflowing(expand, t5=wish)
    assert clip["skip_code"].to_pylist() == [None] * 2 + ["OVERFLOW_CLIP"] * 4
    assert t5["skip_code"].to_pylist() == [None] * 4 + ["OVERFLOW_T5"] * 2
    row = t5.to_pylist()[-1]
    assert row["where"] == "a.jsonl, line 3"
    assert row["skip_message"] == (
        "column prompt has more tokens than T5 reads (max_sequence_length): shorten it, "
        "or write errors.on_overflow: {t5: keep}"
    )
    assert (row["height"], row["bucket"]) == (1024, "1024x1024 steps=40 guidance=on slg=off t5=256")
    assert clip["image_id"].to_pylist() == overflowing(expand)["image_id"].to_pylist()


def test_the_stricter_policy_names_the_code(expand):
    table = overflowing(expand, clip="refuse", t5="skip")
    assert table["skip_code"].to_pylist()[2:] == ["OVERFLOW_CLIP"] * 4
    table = overflowing(expand, clip="skip", t5="refuse")
    assert table["skip_code"].to_pylist()[2:] == ["OVERFLOW_CLIP"] * 2 + ["OVERFLOW_T5"] * 2


@pytest.mark.parametrize(
    ("errors", "stops"),
    [
        ({}, {"BAD_SIZE"}),
        ({"bad_rows": "skip"}, set()),
        ({"bad_rows": "skip", "on_overflow": {"clip": "refuse"}}, {"OVERFLOW_CLIP"}),
        ({"bad_rows": "skip", "on_overflow": {"t5": "refuse", "clip": "skip"}}, {"OVERFLOW_T5"}),
    ],
)
def test_codes_that_stop_the_job(errors, stops):
    codes = {"BAD_SIZE", "OVERFLOW_CLIP", "OVERFLOW_T5"}
    assert {code for code in codes if refused(code, Errors.model_validate(errors))} == stops
