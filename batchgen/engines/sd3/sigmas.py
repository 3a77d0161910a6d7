"""Noise levels of a rectified flow by the names that ComfyUI gives its schedules. Arithmetic only: no torch, no model.

A schedule is num_inference_steps levels from 1 down, and a 0 at the end. `normal` is not made here: it is what
diffusers' FlowMatchEulerDiscreteScheduler makes when it is given a number of steps, bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TRAINED = 1000  # num_train_timesteps of SD3's scheduler; ComfyUI's ModelSamplingDiscreteFlow has as many levels
ALPHA = BETA = 0.6  # ComfyUI's beta_scheduler, after arXiv 2407.12173

Levels = npt.NDArray[np.float64]


def shifted(levels: Levels, shift: float) -> Levels:
    """Towards noise by a static shift: equation 23 of arXiv 2403.03206."""
    return shift * levels / (1 + (shift - 1) * levels)


def trained_levels(shift: float) -> Levels:
    """(1000,) ascending: the levels that the model was trained on, shifted."""
    return shifted(np.arange(1, TRAINED + 1) / TRAINED, shift)


def simple(steps: int, shift: float) -> Levels:
    """Every (1000 / steps)-th of the trained levels, from the noisiest."""
    levels = trained_levels(shift)
    found: Levels = levels[[-(1 + int(step * (TRAINED / steps))) for step in range(steps)]]
    return found


def first_simple(steps: int, shift: float) -> Levels:
    """`simple` as runs had it before run.rules.SIMPLE: of 38 and six other numbers of steps, one level is the next."""
    levels = trained_levels(shift)
    found: Levels = levels[[-(1 + int(step * TRAINED / steps)) for step in range(steps)]]
    return found


def sgm_uniform(steps: int, shift: float) -> Levels:
    """Equal steps from 1 to the least level, which is left out, then shifted (a second time, as `normal` is)."""
    return shifted(np.linspace(1.0, trained_levels(shift)[0], steps + 1)[:-1], shift)


def beta(steps: int, shift: float) -> Levels:
    """Trained levels at quantiles of a beta distribution: dense at both ends.

    Of many steps some coincide and are taken once, so that there are fewer than were asked for.
    """
    from scipy import stats  # takes a second to import, and a machine for measuring may lack it

    quantiles = 1 - np.linspace(0, 1, steps, endpoint=False)
    at = np.rint(stats.beta.ppf(quantiles, ALPHA, BETA) * (TRAINED - 1)).astype(int)
    kept = np.concatenate([[True], at[1:] != at[:-1]])
    levels: Levels = trained_levels(shift)[at[kept]]
    return levels


SCHEDULES = {"simple": simple, "sgm_uniform": sgm_uniform, "beta": beta}
FIRST_SCHEDULES = SCHEDULES | {"simple": first_simple}
