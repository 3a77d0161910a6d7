"""ComfyUI's percentages of a schedule → the steps that they mean.

In ComfyUI a percentage p is a noise level: of a flow model the level 1 - p, shifted. A step is inside a range when its
level is, ends included (nodes_slg.py, passes.py). The noise levels are computed here once more, beside those that the
engine renders with, because an import works without torch and a level at the end of a range is in or out by its last
bit: the levels that ComfyUI keeps in a table, as `simple` has them, are computed in fp32 as there. Those between two of
the table never lie on an end but for the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TRAINED = 1000  # levels of ModelSamplingDiscreteFlow
SHIFT = 3.0  # sampling_settings of SD3 in comfy/supported_models.py; SD3.5's scheduler config has the same
ALPHA = BETA = 0.6  # beta_scheduler

Levels = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Steps:
    """The noise levels of the steps of a pass, and the shift that gives percentages a meaning."""

    noise: list[float]
    shift: float

    def within(self, start: float, end: float) -> range:
        """The steps between two percentages."""
        highest, lowest = level_at(start, self.shift), level_at(end, self.shift)
        inside = [step for step, level in enumerate(self.noise) if lowest <= level <= highest]
        return range(inside[0], inside[-1] + 1) if inside else range(0)

    def in_words(self, start: float, end: float) -> str:
        return in_words(self.within(start, end), len(self.noise))


def in_words(inside: range, steps: int) -> str:
    """For people, who count from 1: 'steps 2 to 5 of 28'."""
    if not inside:
        return f"none of {steps} steps"
    first, last = inside[0] + 1, inside[-1] + 1
    return f"step {first} of {steps}" if first == last else f"steps {first} to {last} of {steps}"


def levels(schedule: str, steps: int, shift: float) -> list[float]:
    """Noise levels of the steps, without the 0 at the end (calculate_sigmas). `beta` may have fewer than `steps`."""
    trained = _shifted(np.arange(1, TRAINED + 1, dtype=np.float32) / np.float32(TRAINED), shift)
    if schedule == "simple":
        noise = trained[[-(1 + int(step * (TRAINED / steps))) for step in range(steps)]]
    elif schedule == "beta":
        noise = trained[_beta(steps)]
    else:
        # Between the last and the first trained level, which are shifted already: shifted twice.
        uniform = np.linspace(1.0, trained[0], steps + (schedule == "sgm_uniform"), dtype=np.float32)
        noise = _shifted(uniform[:steps], shift)
    return [float(level) for level in noise]


def level_at(percent: float, shift: float) -> float:
    """percent_to_sigma of ModelSamplingDiscreteFlow."""
    if percent <= 0:
        return 1.0
    if percent >= 1:
        return 0.0
    level = 1.0 - percent
    return shift * level / (1 + (shift - 1) * level)


def _shifted(level: Levels, shift: float) -> Levels:
    """time_snr_shift, which leaves levels alone at a shift of 1."""
    if shift == 1:
        return level
    factor, one = np.float32(shift), np.float32(1)
    return factor * level / (one + np.float32(shift - 1) * level)


def _beta(steps: int) -> list[int]:
    from scipy import stats  # half a second, for one schedule

    quantiles = 1 - np.linspace(0, 1, steps, endpoint=False)
    at = [int(index) for index in np.rint(stats.beta.ppf(quantiles, ALPHA, BETA) * (TRAINED - 1))]
    return [index for number, index in enumerate(at) if number == 0 or index != at[number - 1]]
