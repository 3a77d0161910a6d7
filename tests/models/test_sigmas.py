"""Schedules by numbers that can be worked out by hand."""

import numpy as np
import pytest

from batchgen.engines.sd3.sigmas import SCHEDULES, beta, sgm_uniform, shifted, simple, trained_levels


def test_a_static_shift_of_three():
    assert shifted(np.array([0.25, 0.5, 0.75, 1.0]), 3.0) == pytest.approx([0.5, 0.75, 0.9, 1.0])


def test_simple_takes_every_so_manieth_trained_level():
    assert simple(4, 3.0) == pytest.approx([1.0, 0.9, 0.75, 0.5])
    assert simple(3, 1.0) == pytest.approx([1.0, 0.667, 0.334])
    assert (simple(1000, 3.0) == trained_levels(3.0)[::-1]).all()


def test_sgm_uniform_leaves_the_least_level_out():
    assert sgm_uniform(2, 1.0) == pytest.approx([1.0, 0.5005])
    assert sgm_uniform(1, 3.0) == pytest.approx([1.0])


def test_beta_lies_at_quantiles_of_a_symmetric_distribution():
    assert beta(2, 1.0) == pytest.approx([1.0, 0.501])
    steps = -np.diff(beta(20, 1.0))
    assert steps[0] < steps[10] > steps[-1]


def test_beta_takes_levels_that_coincide_once():
    assert len(beta(20, 3.0)) == 20
    assert len(beta(200, 3.0)) < 200


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 28, 200])
def test_levels_fall_from_one_and_stay_above_zero(name, steps):
    levels = SCHEDULES[name](steps, 3.0)
    assert levels[0] == pytest.approx(1.0)
    assert (np.diff(levels) < 0).all()
    assert levels[-1] > 0
