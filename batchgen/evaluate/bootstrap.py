"""Prompts drawn again: what a total and a difference of totals would have been with other prompts of the same kind.

A draw takes as many prompts as there are, with repetition, from each stratum on its own; all columns (the settings
that are compared) see the same draws, so that differences are paired. Knows numbers only.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, stdtrit

from batchgen.evaluate.weighing import Floats, Weights

DRAWS = 10_000
LEVEL = 0.95
_NUMBERS_AT_ONCE = 1 << 22  # 32 MB for each matrix


def draw(weights: Weights, values: Floats, random: np.random.Generator, draws: int = DRAWS) -> Floats:
    """Means of the strata in each draw: (draws, strata, columns). values: (prompts, columns)."""
    found = np.empty((draws, len(weights.share), values.shape[1]))
    for stratum, count in enumerate(weights.counts):
        at = weights.stratum == stratum
        size, sized = weights.size[at], weights.size[at, None] * values[at]
        step = max(1, _NUMBERS_AT_ONCE // count)
        for begin in range(0, draws, step):
            end = min(draws, begin + step)
            times = _times(int(count), end - begin, random)
            found[begin:end, stratum] = (times @ sized) / (times @ size)[:, None]
    return found


def _times(prompts: int, draws: int, random: np.random.Generator) -> Floats:
    """How often each prompt was drawn: (draws, prompts)."""
    picked = random.integers(prompts, size=(draws, prompts)) + prompts * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * prompts).reshape(draws, prompts).astype(float)


def totals(weights: Weights, drawn: Floats) -> Floats:
    """(draws, strata, columns) → (draws, columns)."""
    summed: Floats = np.einsum("dsc,s->dc", drawn, weights.share)
    return summed


def percentiles(weights: Weights, values: Floats, drawn: Floats) -> Floats:
    """The expanded percentile interval of each column: (2, columns). drawn: (draws, columns).

    Draws of n prompts vary by (n − 1)/n less than new prompts would, and a spread that is known from few prompts is
    not known well. Both together move the percentiles outwards: Hesterberg, What Teachers Should Know About the
    Bootstrap, The American Statistician 69, 2015. Where a stratum has one prompt: all that was drawn.
    """
    variances = weights.strata_variances(values)
    shrunk = (weights.share**2 * (weights.counts - 1) / weights.counts) @ variances
    wanted = weights.share**2 @ variances
    ratio = np.sqrt(np.divide(wanted, shrunk, out=np.ones_like(wanted), where=shrunk > 0))
    tail = np.nan_to_num(ndtr(-ratio * stdtrit(weights.freedom(values), (1 + LEVEL) / 2)))
    ordered, at = np.sort(drawn, axis=0), np.stack([tail, 1 - tail]) * (len(drawn) - 1)
    below = np.floor(at).astype(np.int64)
    lower = np.take_along_axis(ordered, below, axis=0)
    upper = np.take_along_axis(ordered, np.minimum(below + 1, len(drawn) - 1), axis=0)
    ends: Floats = lower + (at - below) * (upper - lower)
    return ends
