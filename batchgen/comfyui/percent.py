"""ComfyUI's percentages of a schedule → the steps they mean, and those steps → batchgen's shares of all steps.

In ComfyUI a percentage p is a noise level: of a flow model the level 1 - p, shifted. A step is inside a range when its
level is, ends included (nodes_slg.py, passes.py). batchgen counts steps: i is inside from n × start to n × stop.
The levels that ComfyUI keeps in a table are computed in fp32 as there: one on the end of a range, as `simple` has them,
is in or out by its last bit. Those between two of the table never lie on an end but for the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TRAINED = 1000  # levels of ModelSamplingDiscreteFlow
SHIFT = 3.0  # sampling_settings of SD3 in comfy/supported_models.py; SD3.5's scheduler config has the same
ALPHA = BETA = 0.6  # beta_scheduler

Levels = npt.NDArray[np.float32]


def levels(schedule: str, steps: int, shift: float) -> list[float]:
    """Noise levels of the steps, without the 0 at the end (calculate_sigmas). `beta` may have fewer than `steps`."""
    trained = _shifted(np.arange(1, TRAINED + 1, dtype=np.float32) / np.float32(TRAINED), shift)
    if schedule == "simple":
        found = trained[[-(1 + int(step * (TRAINED / steps))) for step in range(steps)]]
    elif schedule == "beta":
        found = trained[_beta(steps)]
    else:
        # Between the last and the first trained level, which are shifted already: shifted twice.
        uniform = np.linspace(1.0, trained[0], steps + (schedule == "sgm_uniform"), dtype=np.float32)
        found = _shifted(uniform[:steps], shift)
    return [float(level) for level in found]


def level_at(percent: float, shift: float) -> float:
    """percent_to_sigma of ModelSamplingDiscreteFlow."""
    if percent <= 0:
        return 1.0
    if percent >= 1:
        return 0.0
    level = 1.0 - percent
    return shift * level / (1 + (shift - 1) * level)


def steps_within(noise: Sequence[float], start: float, end: float, shift: float) -> range:
    """The steps, of those with these noise levels, that lie between two percentages."""
    highest, lowest = level_at(start, shift), level_at(end, shift)
    inside = [step for step, level in enumerate(noise) if lowest <= level <= highest]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


def shares(inside: range, steps: int, near: tuple[float, float]) -> tuple[float, float]:
    """(start, stop) so that steps × start < i < steps × stop are just these steps. inside: not empty, without 0.

    near: taken where they do, else the shortest decimals.
    """
    first, last = inside[0], inside[-1]
    starts = [near[0], *(round((first - 0.5) / steps, digits) for digits in range(1, 8))]
    stops = [near[1], *(round((last + 0.5) / steps, digits) for digits in range(1, 8))]
    start = next(share for share in starts if first - 1 <= steps * share < first)
    stop = next(share for share in stops if last < steps * share <= last + 1 and share <= 1)
    return start, stop


def said(inside: range, steps: int) -> str:
    """For people, who count from 1: 'steps 2 to 5 of 28'."""
    if not inside:
        return f"none of {steps} steps"
    first, last = inside[0] + 1, inside[-1] + 1
    return f"step {first} of {steps}" if first == last else f"steps {first} to {last} of {steps}"


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
