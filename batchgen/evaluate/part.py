"""One part of a comparison, the total or a category: estimates of each cell, and of differences between cells.

Knows numbers only: columns are cells, and pairs are two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from batchgen.evaluate.bootstrap import draw, percentiles, totals
from batchgen.evaluate.compared import Estimate
from batchgen.evaluate.intervals import (
    GIVEN_SEEDS,
    NEW_PROMPTS,
    Images,
    Interval,
    Scale,
    of_difference,
    over_prompts,
    over_seeds,
)
from batchgen.evaluate.significance import Tested, can_be_mcnemar, mcnemar, sign_flips
from batchgen.evaluate.weighing import Floats, Ints, Weights

Pair = tuple[int, int]  # columns: the first less the second
PAIRS_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """means: of a prompt's images, (prompts, cells). drawn: values of the bootstrap's draws, (draws, cells).

    scale: the ends of the scores, None where it is open.
    """

    weights: Weights
    means: Floats
    drawn: Floats
    images: Images
    scale: Scale | None

    @classmethod
    def whole(
        cls, images: Images, weights: Weights, scale: Scale | None, random: np.random.Generator
    ) -> tuple[Self, Floats]:
        """The total, and the draws of its strata, (draws, strata, cells)."""
        means = means_of(images)
        drawn = draw(weights, means, random)
        return cls(weights=weights, means=means, drawn=totals(weights, drawn), images=images, scale=scale), drawn

    def category(self, prompts: Ints, size: Floats, drawn: Floats) -> Part:
        """Only these prompts, as one stratum. size: what each of them counts."""
        at = np.isin(self.images.prompt, prompts)
        images = Images(np.searchsorted(prompts, self.images.prompt[at]), self.images.seed[at], self.images.values[at])
        weights, means = Weights.equal(size), self.means[prompts]
        return Part(weights=weights, means=means, drawn=drawn, images=images, scale=self.scale)

    @property
    def name(self) -> str:
        """What its intervals are for."""
        return GIVEN_SEEDS if self.images.seeds_are_shared else NEW_PROMPTS

    def intervals(self) -> list[Interval]:
        return over_prompts(self.weights, self.means, self.drawn, self.scale, self.name)

    def estimates(self) -> list[Estimate]:
        """Of each cell."""
        return self._estimates(self.means, self.intervals(), over_seeds(self.weights, self.images, self.scale))

    def differences(self, pairs: Sequence[Pair]) -> Iterator[Estimate]:
        """Of each pair."""
        ofs, total = self.intervals(), self.weights.value(self.means)
        centred = self.weights.each[:, None] * (
            self.means - self.weights.strata_means(self.means)[self.weights.stratum]
        )
        for begin in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[begin : begin + PAIRS_AT_ONCE]
            one, other = np.array(some).T
            values = self.means[:, one] - self.means[:, other]
            ends = percentiles(self.weights, values, self.drawn[:, one] - self.drawn[:, other])
            found = [
                of_difference(ofs[a], ofs[b], end, centred[:, [a, b]], total[[a, b]])
                for (a, b), end in zip(some, ends.T, strict=True)
            ]
            between = self.images.values[:, one] - self.images.values[:, other]
            seeds = over_seeds(self.weights, Images(self.images.prompt, self.images.seed, between), None)
            yield from self._estimates(values, found, seeds)

    def test(self, pairs: Sequence[Pair], random: np.random.Generator, flips: int) -> Tested:
        """Of each pair. With one image a prompt that is right or wrong: McNemar's, which is the same test exactly."""
        one, other = np.array(pairs).T
        values = self.means[:, one] - self.means[:, other]
        if len(self.images.prompt) == len(self.means) and can_be_mcnemar(values, self.weights.each):
            return mcnemar(values)
        return sign_flips(self.weights.each[:, None] * values, random, flips)

    def _estimates(
        self, values: Floats, intervals: Sequence[Interval], seeds: Sequence[Interval] | None
    ) -> list[Estimate]:
        variances = self.weights.variance(values)
        return [
            Estimate(
                value=float(value),
                stderr=None if np.isnan(variance) else float(np.sqrt(variance)),
                interval=None if np.isnan(variance) else interval,
                seeds=seeds[at] if seeds else None,
                n=len(values),
                images=len(self.images.prompt),
            )
            for at, (value, variance, interval) in enumerate(
                zip(self.weights.value(values), variances, intervals, strict=True)
            )
        ]


def means_of(images: Images) -> Floats:
    """Of each prompt the mean of its images: (prompts, cells)."""
    count = np.bincount(images.prompt)
    sums = np.zeros((len(count), images.values.shape[1]))
    np.add.at(sums, images.prompt, images.values)
    means: Floats = sums / count[:, None]
    return means
