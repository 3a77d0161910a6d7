"""How much a prompt counts in a mean: of all prompts, or of means of categories. Its value and its standard error.

The unit is the prompt: images of one prompt are not independent of each other, and prompts are. A prompt's value is
the mean of its images. Knows numbers only, no benchmark and no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """stratum: of each prompt, a number from 0. size: how much a prompt counts in its stratum. share: of each stratum
    in the total; together 1. A stratum's mean is a ratio: of sums of size × value, and of size.
    """

    stratum: Ints
    size: Floats
    share: Floats

    @classmethod
    def of(
        cls, strata: Sequence[str], size: Sequence[float] | Floats, shares: Mapping[str, float] | None = None
    ) -> Self:
        """strata: of each prompt, numbered by their names. shares: of the strata, in any unit; without them all equal.

        What is shared out is shared among the strata that are there.
        """
        names, stratum = np.unique(np.asarray(strata, str), return_inverse=True)
        share = np.array([1.0 if shares is None else shares[str(name)] for name in names])
        return cls(stratum=stratum.astype(np.int64), size=np.asarray(size, float), share=share / share.sum())

    @classmethod
    def equal(cls, size: Sequence[float] | Floats) -> Self:
        """One stratum of all prompts."""
        return cls.of(["all"] * len(size), size)

    @cached_property
    def counts(self) -> Ints:
        """Prompts of each stratum."""
        return np.bincount(self.stratum, minlength=len(self.share))

    @cached_property
    def within(self) -> Floats:
        """What each prompt counts in the mean of its stratum; together 1 in each."""
        within: Floats = self.size / np.bincount(self.stratum, self.size)[self.stratum]
        return within

    @cached_property
    def each(self) -> Floats:
        """What each prompt counts in the total; together 1."""
        each: Floats = self.share[self.stratum] * self.within
        return each

    def strata_means(self, values: Floats) -> Floats:
        """values: (prompts, columns). Returns (strata, columns)."""
        size = np.bincount(self.stratum, self.size)
        return self._sums(self.size[:, None] * values) / size[:, None]

    def value(self, values: Floats) -> Floats:
        """The total of each column. values: (prompts, columns), a prompt's mean in each."""
        total: Floats = np.average(self.strata_means(values), axis=0, weights=self.share)
        return total

    def strata_variances(self, values: Floats) -> Floats:
        """Of each stratum's mean, for new prompts of that stratum: (strata, columns). NaN where it has one prompt.

        The linearised variance of a ratio of sums: Cochran, Sampling Techniques, 3rd edition, 1977, section 2.11.
        Where all prompts count the same it is the sample variance divided by their number.
        """
        deviation = values - self.strata_means(values)[self.stratum]
        squares = self._sums((self.within[:, None] * deviation) ** 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            variances: Floats = squares * (self.counts / (self.counts - 1))[:, None]
        return np.where(self.counts[:, None] > 1, variances, np.nan)

    def variance(self, values: Floats) -> Floats:
        """Of each column's total, for new prompts."""
        variance: Floats = self.share**2 @ self.strata_variances(values)
        return variance

    def freedom(self, values: Floats) -> Floats:
        """Degrees of freedom of that variance: Satterthwaite, Biometrics Bulletin 2, 1946."""
        parts = self.share[:, None] ** 2 * self.strata_variances(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            freedom: Floats = parts.sum(axis=0) ** 2 / (parts**2 / (self.counts - 1)[:, None]).sum(axis=0)
        return np.where(parts.sum(axis=0) > 0, freedom, len(self.stratum) - len(self.share))

    def _sums(self, values: Floats) -> Floats:
        """Of the prompts of each stratum."""
        members: npt.NDArray[Any] = np.arange(len(self.share))[:, None] == self.stratum
        sums: Floats = members.astype(float) @ values
        return sums
