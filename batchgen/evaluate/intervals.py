"""Intervals with names: what other prompts would have given, and what other seeds on these prompts would have given.

Near the ends of a scale, where a bootstrap sees too little variation or none, they are Wilson's with the number of
independent images that the variance is worth. Knows numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from batchgen.evaluate.bootstrap import LEVEL, percentiles
from batchgen.evaluate.weighing import Floats, Ints, Weights

NEW_PROMPTS = "new prompts"
GIVEN_SEEDS = "new prompts, given these seeds"
NEW_SEEDS = "new seeds on these prompts"
# Fewer independent images than this on the rarer side: Wilson instead of the bootstrap. Ten is what textbooks ask of
# the normal approximation of a binomial; jobs/bench/intervals.py measures what comes of it.
NEAR = 10.0
ROUNDING = 1e-9  # of sums of weights

Scale = tuple[float, float]  # the lowest and the highest score that there is


@dataclass(frozen=True, slots=True)
class Interval:
    """Of 95 %. name: which question it answers. method: how it was made."""

    low: float
    high: float
    name: str
    method: str


def over_prompts(weights: Weights, values: Floats, drawn: Floats, scale: Scale | None, name: str) -> list[Interval]:
    """Of each column's total. values: (prompts, columns); drawn: totals of the draws, (draws, columns).

    Columns whose variance is not known, as a stratum has one prompt, have the interval that says nothing.
    """
    ends, found = percentiles(weights, values, drawn).T, []
    for (low, high), value, variance in zip(ends, weights.value(values), weights.variance(values), strict=True):
        if np.isnan(variance):
            found.append(Interval(*(scale or (-np.inf, np.inf)), name, "unknown: a category has one prompt"))
            continue
        independent = effective_count(value, variance, scale, weights.each)
        if independent is None:
            found.append(Interval(float(low), float(high), name, "bootstrap"))
        else:
            found.append(wilson(value, independent, scale or (0, 1), name))
    return found


def of_difference(first: Interval, second: Interval, ends: Floats, values: Floats, totals: Floats) -> Interval:
    """Of first − second, which have the same name. ends: of the bootstrap of their difference.

    values: (prompts, 2), weighted; totals: of both. Where both are the bootstrap's, so is the difference. Else the
    distances of both to their ends are squared and added, less what they have in common: Zou, Donner, Statistics in
    Medicine 27, 2008, after Newcombe's interval for paired shares (Statistics in Medicine 17, 1998).
    """
    if first.method == second.method == "bootstrap":
        return Interval(float(ends[0]), float(ends[1]), first.name, "bootstrap")
    spread = values - values.mean(axis=0)
    both = np.sqrt((spread**2).sum(axis=0).prod())
    alike = float(spread[:, 0] @ spread[:, 1] / both) if both > 0 else 0.0

    def far(one: float, other: float) -> float:
        return float(np.sqrt(max(0.0, one**2 + other**2 - 2 * alike * one * other)))

    difference = float(totals[0] - totals[1])
    low = difference - far(totals[0] - first.low, second.high - totals[1])
    high = difference + far(first.high - totals[0], totals[1] - second.low)
    return Interval(low, high, first.name, "of both Wilson intervals")


def effective_count(
    value: float, variance: float, scale: Scale | None, each: Floats, near: float = NEAR
) -> float | None:
    """How many independent images with right and wrong would vary as much; None where that is not needed.

    For images that are right or wrong, k of each prompt, it is their number divided by the design effect
    1 + (k − 1) × intraclass correlation (Kish, Survey Sampling, 1965, section 5.4). Where all are equal nothing is
    known of the correlation; then it counts as 1, and what is left are the prompts.
    """
    if scale is None:
        return None
    share = (value - scale[0]) / (scale[1] - scale[0])
    if not -ROUNDING <= share <= 1 + ROUNDING:
        return None  # the scale was not as it was said to be
    share, relative = min(1.0, max(0.0, share)), variance / (scale[1] - scale[0]) ** 2
    count = share * (1 - share) / relative if relative > ROUNDING**2 else 1 / float(each @ each)
    return count if count * min(share, 1 - share) < near else None


def wilson(value: float, count: float, scale: Scale, name: str) -> Interval:
    """Wilson, Journal of the American Statistical Association 22, 1927, on a scale of any ends."""
    width = scale[1] - scale[0]
    share, z = min(1.0, max(0.0, (value - scale[0]) / width)), float(ndtri((1 + LEVEL) / 2))
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(
        float(scale[0] + width * low), float(scale[0] + width * high), name, f"Wilson, {count:.0f} independent images"
    )


@dataclass(frozen=True, slots=True)
class Images:
    """Of each image its prompt, a number from 0; the seed, likewise, that it was made from; its values, by column."""

    prompt: Ints
    seed: Ints
    values: Floats

    @property
    def seeds_are_shared(self) -> bool:
        """Whether a seed was used for more than one prompt: then prompts are not independent of each other."""
        return len(np.unique(self.seed)) < len(self.seed)

    @property
    def seeds_are_crossed(self) -> bool:
        """Whether every prompt has every seed, once."""
        prompts, seeds = len(np.unique(self.prompt)), len(np.unique(self.seed))
        return self.seeds_are_shared and len(self.seed) == prompts * seeds


def over_seeds(weights: Weights, images: Images, scale: Scale | None) -> list[Interval] | None:
    """Of each column's total, for new seeds on these prompts. None where a prompt has one image, or shares some seeds.

    Seeds of their own: the images of a prompt vary around its mean. Seeds that all prompts share: the total of each
    seed is one observation, since a seed may be good or bad for all prompts at once.
    """
    count = np.bincount(images.prompt)
    if count.min() < 2 or (images.seeds_are_shared and not images.seeds_are_crossed):
        return None
    each = (weights.each / count)[images.prompt]
    value = each @ images.values
    if images.seeds_are_crossed:
        seeds = len(np.unique(images.seed))
        of_seed = seeds * _sums(images.seed, each[:, None] * images.values)
        variance, freedom = of_seed.var(axis=0, ddof=1) / seeds, np.full(len(value), seeds - 1.0)
    else:
        mean = _sums(images.prompt, images.values) / count[:, None]
        squares = _sums(images.prompt, (images.values - mean[images.prompt]) ** 2)
        parts = (weights.each**2 / count / (count - 1))[:, None] * squares
        variance = parts.sum(axis=0)
        below = (parts**2 / (count - 1)[:, None]).sum(axis=0)
        freedom = np.divide(variance**2, below, out=np.ones_like(variance), where=below > 0)
    half = stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(variance)
    found = []
    for at in range(len(value)):
        independent = effective_count(value[at], variance[at], scale, each)
        if independent is None or images.seeds_are_crossed:
            found.append(Interval(float(value[at] - half[at]), float(value[at] + half[at]), NEW_SEEDS, "Student's t"))
        else:
            found.append(wilson(value[at], independent, scale or (0, 1), NEW_SEEDS))
    return found


def _sums(groups: Ints, values: Floats) -> Floats:
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums
