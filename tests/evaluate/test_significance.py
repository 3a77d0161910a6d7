"""Tests between two settings, against scipy and written out by hand."""

import numpy as np
import pytest
from scipy import stats

from batchgen.evaluate.significance import can_be_mcnemar, detectable, flips_for, holm, mcnemar, sign_flips


@pytest.fixture
def random():
    return np.random.default_rng(11)


def theirs(differences, **settings):
    """scipy's sign flips of a sum."""
    return stats.permutation_test(
        (differences,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", vectorized=True, **settings
    ).pvalue


@pytest.mark.parametrize("prompts", [2, 4, 11])
def test_few_prompts_are_enumerated_as_by_scipy(random, prompts):
    differences = random.choice([-0.5, -0.25, 0.0, 0.25, 0.5, 1.0], (prompts, 3))
    found = sign_flips(differences, random)
    assert found.method == "all sign flips"
    assert found.p == pytest.approx([theirs(differences[:, at]) for at in range(3)])


def test_twenty_prompts_are_enumerated_and_more_are_drawn(random):
    assert sign_flips(np.ones((20, 1)), random).p == pytest.approx([2 / 2**20])
    found = sign_flips(np.ones((21, 1)), random, 999)
    assert found.method == "999 sign flips"
    assert found.p[0] == 1 / 1000  # (b + 1)/(B + 1) is never 0


def test_many_prompts_give_scipys_p(random):
    differences = random.normal(0.08, 0.5, 120)
    p = sign_flips(differences[:, None], random).p[0]
    assert p == pytest.approx(theirs(differences, n_resamples=9_999, rng=2), abs=0.015)
    assert 0.01 < p < 0.3


def test_flips_are_weighted_as_the_total_is(random):
    """A prompt of a small category counts more: here it alone decides."""
    differences = np.array([1.0] * 3 + [-1.0] * 15)
    alike = sign_flips(differences[:, None], random).p[0]
    weighted = sign_flips((differences * np.array([5.0] * 3 + [1.0] * 15))[:, None], random).p[0]
    assert alike < 0.01
    assert weighted == 1.0


def test_the_same_sum_in_another_order_is_reached(random):
    differences = np.full((30, 1), 0.1)
    differences[1::2] *= -1
    assert sign_flips(differences, random).p[0] == 1.0


def test_mcnemars_test_is_the_binomial_and_the_flips_of_single_images(random):
    differences = random.choice([-1.0, 0.0, 0.0, 1.0, 1.0], (18, 2))
    found = mcnemar(differences)
    for at in range(2):
        better, worse = (differences[:, at] == 1).sum(), (differences[:, at] == -1).sum()
        assert found.p[at] == pytest.approx(stats.binomtest(better, better + worse).pvalue)
    assert found.p == pytest.approx(sign_flips(differences, random).p)
    assert mcnemar(np.zeros((5, 1))).p[0] == 1.0


def test_mcnemars_test_needs_right_and_wrong_and_equal_weights():
    equal = np.full(4, 0.25)
    assert can_be_mcnemar(np.array([[1.0], [0.0], [-1.0], [0.0]]), equal)
    assert not can_be_mcnemar(np.array([[0.5], [0.0], [-1.0], [0.0]]), equal)
    assert not can_be_mcnemar(np.array([[1.0], [0.0], [-1.0], [0.0]]), np.array([0.4, 0.2, 0.2, 0.2]))


def test_holms_way_by_hand():
    # sorted 0.01 ×4, 0.02 ×3, 0.03 ×2, 0.2 ×1; none below one before it
    assert holm([0.03, 0.2, 0.01, 0.02]) == pytest.approx([0.06, 0.2, 0.04, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_the_detectable_difference_is_found_in_80_of_100_comparisons(random):
    size = detectable(0.1, 1)
    assert size == pytest.approx((1.959964 + 0.841621) * 0.1, rel=1e-5)
    found = np.abs(random.normal(size, 0.1, 20_000)) > 0.1 * stats.norm.ppf(0.975)
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    assert detectable(0.1, 10) > size
    assert detectable(0.0, 1) is None
    assert detectable(None, 1) is None


def test_there_are_flips_enough_for_holms_correction():
    assert flips_for(1) == 9_999
    for tests in (300, 900):
        assert holm([1 / (flips_for(tests) + 1)] * tests)[0] <= 0.05
