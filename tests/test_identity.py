"""Names are pure functions of content: golden values keep them so, because old runs are found by them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.rows import identity

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def test_golden_names():
    """If one of these changes, every existing run is taken for another one: raise VERSION instead."""
    row = {"prompt": "a cat", "height": 512, "guidance_scale": 4.5, "note": "é"}
    assert identity.VERSION == 1
    assert identity.content_prompt_id(row) == "b46217f683fbc1ce0162487a08085115"
    assert identity.derive_wide_seed(0, "p", 3) == 3914532246708202
    assert identity.derive_seed(0, "p", 3) == 1439132147
    assert identity.image_id("p", 0, "default", {"prompt": "a cat", "seed": 7}) == "25ff80e52942065b754d9e2f50cb4213"
    assert identity.fingerprint({"a": 1}) == "5929d668870c25442e344775d5f4dbad"


@given(VALUES)
def test_canonical_json_is_json_and_says_the_same(value):
    assert json.loads(identity.canonical(value).decode("utf-8", "surrogatepass")) == value


@given(st.dictionaries(st.text(), SCALARS))
def test_the_order_of_keys_changes_nothing(mapping):
    assert identity.digest(mapping) == identity.digest(dict(reversed(mapping.items())))


@pytest.mark.parametrize("value", [math.nan, math.inf, b"bytes", object()])
def test_what_json_cannot_say_has_no_name(value):
    with pytest.raises((ValueError, TypeError)):
        identity.canonical(value)


def test_lone_surrogates_have_names_too():
    assert identity.content_prompt_id({"prompt": "\ud800"}) != identity.content_prompt_id({"prompt": "\ud801"})


def test_null_columns_change_nothing():
    assert identity.content_prompt_id({"prompt": "x", "note": None}) == identity.content_prompt_id({"prompt": "x"})
    assert identity.content_prompt_id({"prompt": "x", "note": ""}) != identity.content_prompt_id({"prompt": "x"})


def test_repeats_are_counted_from_two():
    assert [identity.repeated_prompt_id("x", n) for n in (1, 2, 3)] == ["x", "x-2", "x-3"]


@given(st.integers(0, 2**63 - 1), st.text(), st.integers(0, 10_000))
def test_derived_seeds_have_the_bits_that_torch_takes(job_seed, prompt_id, sample):
    assert 0 <= identity.derive_seed(job_seed, prompt_id, sample) < 2**32
    assert 0 <= identity.derive_wide_seed(job_seed, prompt_id, sample) < 2**53


@given(st.integers(0, 2**63 - 1), st.text())
def test_no_two_samples_of_a_prompt_have_one_noise(job_seed, prompt_id):
    assert len({identity.derive_seed(job_seed, prompt_id, sample) for sample in range(10_000)}) == 10_000


def test_seeds_and_images_depend_on_each_of_their_parts():
    seeds = {identity.derive_seed(*parts) for parts in [(0, "p", 0), (1, "p", 0), (0, "q", 0), (0, "p", 1)]}
    images = {
        identity.image_id(*parts)
        for parts in [
            ("p", 0, "c", {"seed": 1}),
            ("q", 0, "c", {"seed": 1}),
            ("p", 1, "c", {"seed": 1}),
            ("p", 0, "d", {"seed": 1}),
            ("p", 0, "c", {"seed": 2}),
            ("p", 0, "c", {"seed": 1, "height": 16}),
        ]
    }
    assert (len(seeds), len(images)) == (4, 6)
