"""Whether two settings differ more than chance would make them: tests on prompts, and Holm's way with many of them.

The test: were two settings alike, each prompt's difference could as well have had the other sign. Knows numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

from batchgen.evaluate.weighing import Floats

FLIPS = 9_999
MOST_FLIPS = 99_999
ENUMERATED = 20  # prompts: a million of signs
ALPHA, POWER = 0.05, 0.8
_NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Tested:
    """p of each column, and how it was found."""

    p: Floats
    method: str


def flips_for(tests: int) -> int:
    """So many that the smallest p there is can still be found after Holm's correction for so many tests."""
    return min(MOST_FLIPS, max(FLIPS, 100 * tests - 1))


def sign_flips(weighted: Floats, random: np.random.Generator, flips: int = FLIPS) -> Tested:
    """Two-sided p of each column. weighted: a prompt's difference times what it counts, (prompts, columns).

    Up to 20 prompts all signs are gone through; of more prompts p = (b + 1)/(B + 1), where b of B random flips give at
    least as much (Phipson, Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010).
    """
    found = np.abs(weighted.sum(axis=0))
    found = found - 1e-9 * np.abs(weighted).sum(axis=0)  # the same sum in another order counts as reached
    prompts = len(weighted)
    step = max(1, _NUMBERS_AT_ONCE // max(1, prompts, weighted.shape[1]))
    reached = np.zeros(weighted.shape[1])
    if prompts <= ENUMERATED:
        count = 2**prompts
        for begin in range(0, count, step):
            numbers = np.arange(begin, min(count, begin + step))
            signs = 1.0 - 2.0 * ((numbers[:, None] >> np.arange(prompts)) & 1)
            reached += (np.abs(signs @ weighted) >= found).sum(axis=0)
        return Tested(reached / count, "all sign flips")
    for begin in range(0, flips, step):
        count = min(step, flips - begin)
        bits = np.frombuffer(random.bytes(-(-count * prompts // 8)), np.uint8)
        signs = 1.0 - 2.0 * np.unpackbits(bits, count=count * prompts).reshape(count, prompts)
        reached += (np.abs(signs @ weighted) >= found).sum(axis=0)
    return Tested((reached + 1) / (flips + 1), f"{flips} sign flips")


def mcnemar(differences: Floats) -> Tested:
    """Exact, two-sided, of each column of 1, 0 and −1: McNemar, Psychometrika 12, 1947, by the binomial."""
    better, worse = (differences > 0).sum(axis=0), (differences < 0).sum(axis=0)
    p = [binomtest(int(b), int(b + w)).pvalue if b + w else 1.0 for b, w in zip(better, worse, strict=True)]
    return Tested(np.array(p), "exact McNemar")


def can_be_mcnemar(differences: Floats, each: Floats) -> bool:
    """Whether prompts count the same and differ by 1 or not at all."""
    return bool(np.isin(differences, (-1.0, 0.0, 1.0)).all() and np.ptp(each) <= 1e-12)


def holm(p: Sequence[float] | Floats) -> Floats:
    """Adjusted p, in the order given: Holm, Scandinavian Journal of Statistics 6, 1979."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, steps)
    return adjusted


def detectable(stderr: float | None, tests: int) -> float | None:
    """The difference that would be found in 80 of 100 such comparisons, were it the first of so many tests.

    Bloom, Evaluation Review 19, 1995. None where the standard error is not known, or nothing differed.
    """
    if not stderr:
        return None
    return float(stderr * (ndtri(1 - ALPHA / (2 * max(1, tests))) + ndtri(POWER)))
