"""Percentages and levels against ComfyUI's own formulas in torch, and shares against what batchgen does with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from batchgen.comfyui import percent, shares
from batchgen.comfyui.percent import Steps
from batchgen.engines.sd3 import sigmas

SCHEDULES = ("normal", "simple", "sgm_uniform", "beta")
STEPS = (1, 2, 7, 20, 28, 33, 40, 50, 200)
SHIFTS = (1.0, 3.0, 4.5, 13.0)


class ModelSamplingDiscreteFlow:
    """What ComfyUI computes, written down from comfy/model_sampling.py and samplers.py, in torch's fp32."""

    def __init__(self, shift):
        self.shift = shift
        self.sigmas = self.sigma((torch.arange(1, 1001, 1) / 1000) * 1000)

    def sigma(self, timestep):
        t = timestep / 1000
        return t if self.shift == 1.0 else self.shift * t / (1 + (self.shift - 1) * t)

    def uniform(self, count):
        return torch.linspace(float(self.sigmas[-1] * 1000), float(self.sigmas[0] * 1000), count)

    def schedule(self, name, steps):
        if name == "normal":
            return [float(self.sigma(time)) for time in self.uniform(steps)]
        if name == "sgm_uniform":
            return [float(self.sigma(time)) for time in self.uniform(steps + 1)[:-1]]
        return [float(self.sigmas[-(1 + int(x * (len(self.sigmas) / steps)))]) for x in range(steps)]

    def skips(self, name, steps, start, end):
        """The steps at which SkipLayerGuidanceDiT runs its extra forward pass."""
        return [
            step
            for step, sigma in enumerate(self.schedule(name, steps))
            if self.percent_to_sigma(end) <= sigma <= self.percent_to_sigma(start)
        ]

    def percent_to_sigma(self, p):
        if p <= 0:
            return 1.0
        if p >= 1:
            return 0.0
        t = 1.0 - p
        return t if self.shift == 1.0 else self.shift * t / (1 + (self.shift - 1) * t)


@pytest.mark.parametrize("shift", SHIFTS)
def test_levels_are_comfyuis(shift):
    """Those of its table to the last bit; the others to fp32."""
    model = ModelSamplingDiscreteFlow(shift)
    for steps in STEPS:
        assert percent.levels("simple", steps, shift) == model.schedule("simple", steps)
        for schedule in ("normal", "sgm_uniform"):
            theirs = model.schedule(schedule, steps)
            np.testing.assert_allclose(percent.levels(schedule, steps, shift), theirs, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
@pytest.mark.parametrize("steps", STEPS)
def test_levels_are_those_that_batchgen_renders_with(schedule, steps):
    np.testing.assert_allclose(percent.levels(schedule, steps, 3.0), sigmas.SCHEDULES[schedule](steps, 3.0), atol=1e-6)


def test_normal_is_what_diffusers_makes_of_a_number_of_steps():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    for steps in STEPS[1:]:
        scheduler.set_timesteps(steps)
        np.testing.assert_allclose(percent.levels("normal", steps, 3.0), scheduler.sigmas[:-1], atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES[:3])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_window_runs_at_the_steps_where_comfyui_runs_it(schedule, shift):
    """All windows of whole percents, at step counts where levels fall on percents and where they do not."""
    model = ModelSamplingDiscreteFlow(shift)
    for steps in (7, 20, 28, 50):
        noise = percent.levels(schedule, steps, shift)
        for start in range(0, 100, 5):
            for end in range(start, 101, 5):
                near = start / 100, end / 100
                theirs = model.skips(schedule, steps, *near)
                assert list(Steps(noise, shift).within(*near)) == theirs
                theirs = [step for step in theirs if step > 0]
                if theirs:
                    share, stop = shares.skip_window(range(theirs[0], theirs[-1] + 1), steps, near)
                    # the rule of job.steps, once more: which steps, not how many
                    assert [step for step in range(steps) if steps * share < step < steps * stop] == theirs
                    assert 0 <= share <= stop <= 1


def test_the_example_of_medium_by_hand():
    """28 steps, shift 3: percent 0.15 is level 0.9444; the levels are 1, .9874, .9741, .9601, .9454, .9298, ..."""
    noise = percent.levels("normal", 28, 3.0)
    assert [round(level, 4) for level in noise[:6]] == [1.0, 0.9874, 0.9741, 0.9601, 0.9454, 0.9298]
    assert math.isclose(percent.level_at(0.15, 3.0), 3 * 0.85 / 2.7)
    assert Steps(noise, 3.0).within(0.01, 0.15) == range(1, 5)
    assert shares.skip_window(range(1, 5), 28, (0.01, 0.15)) == (0.01, 0.15)
    assert shares.skip_window(range(1, 5), 28, (0.5, 0.9)) == (0.0, 0.16)


def test_many_steps_of_beta_coincide():
    assert len(percent.levels("beta", 200, 3.0)) < 200
    assert len(percent.levels("beta", 28, 3.0)) == 28


def test_people_count_from_one():
    words = [percent.in_words(inside, 28) for inside in (range(1, 5), range(3, 4), range(0))]
    assert words == ["steps 2 to 5 of 28", "step 4 of 28", "none of 28 steps"]
