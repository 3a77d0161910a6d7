"""Perceptual hashes as numbers: how many pairs of pictures differ in at most a few of their 64 bits.

Linear in practice: only hashes are compared that agree in two of six bands of bits, as any two do that differ in four
bits at most. Knows numbers, and neither runs nor prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

BITS = 64
NEAR = 4  # bits in which near-identical pictures differ at most; 15 of 64 is where imagehash calls two different
COMPARISONS = 100_000_000  # at most: a few seconds of one core
Values = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def numbers(hashes: Iterable[str]) -> Values:
    """Of hashes as they are stored, 16 hex digits each."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), ">u8").astype(np.uint64)


def bands(values: Values, count: int) -> list[Values]:
    """The bits of each value in so many parts."""
    edges = np.linspace(0, BITS, count + 1).astype(int)
    return [(values >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1) for low, high in pairwise(edges)]


def near_pairs(values: Values, groups: Ints, owners: Ints, places: int, most: int = COMPARISONS) -> tuple[Ints, bool]:
    """How many pairs of a group differ in at most NEAR bits, counted by owner; and whether these are all.

    groups: a number for each value, from 0. owners: for each group the place, one of so many, at which its pairs are
    counted. Equal values are counted and not compared. Not all: there were more comparisons to make than `most`.
    """
    order = np.lexsort((values, groups))
    values, groups = values[order], groups[order]
    new = np.ones(len(values), bool)
    new[1:] = (values[1:] != values[:-1]) | (groups[1:] != groups[:-1])
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(values))).astype(np.int64)
    values, groups = values[starts], groups[starts]
    found = np.zeros(places, np.int64)
    np.add.at(found, owners[groups], counts * (counts - 1) // 2)
    for one, two in _near(values, groups, most):
        if one is None:
            return found, False
        np.add.at(found, owners[groups[one]], counts[one] * counts[two])
    return found, True


def _near(values: Values, groups: Ints, most: int) -> Iterator[tuple[Ints, Ints] | tuple[None, None]]:
    """Places of different values of a group that are near, each pair once; None at the end where it gave up."""
    sizes = np.unique(groups, return_counts=True)[1]
    if (sizes * (sizes - 1) // 2).sum() <= 20 * len(values):  # of groups that are small, all are compared
        for one, two in _alike(groups, np.arange(len(groups))):
            yield _kept(one, two, _differing(values[one], values[two]) <= NEAR)
        return
    parts = bands(values, NEAR + 2)
    for first, second in combinations(range(len(parts)), 2):
        keys = (groups.astype(np.uint64) << np.uint64(22)) | (parts[first] << np.uint64(11)) | parts[second]
        for one, two in _alike(*_sorted(keys)):
            most -= len(one)
            if most < 0:
                yield None, None
                return
            near = _differing(values[one], values[two]) <= NEAR
            yield _firsts(parts, *_kept(one, two, near), first, second)


def _alike(keys: npt.NDArray[np.uint64] | Ints, order: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Places of all pairs whose keys are equal. keys: sorted; order: whose they are."""
    at, apart = np.flatnonzero(keys[1:] == keys[:-1]), 1
    while len(at):
        yield order[at], order[at + apart]
        apart += 1
        at = at[at + apart < len(keys)]
        at = at[keys[at] == keys[at + apart]]


def _sorted(keys: Values) -> tuple[Values, Ints]:
    """The keys in their order, and whose each of them is: sorted as one number, where both fit, which is faster."""
    places = np.uint64(len(keys).bit_length())
    if int(keys.max(initial=0)).bit_length() + int(places) > BITS:
        order = np.argsort(keys)
        return keys[order], order
    both = np.sort((keys << places) | np.arange(len(keys), dtype=np.uint64))
    return both >> places, (both & np.uint64((1 << int(places)) - 1)).astype(np.int64)


def _firsts(parts: list[Values], one: Ints, two: Ints, first: int, second: int) -> tuple[Ints, Ints]:
    """Those of the pairs that agree in no two bands before these: they were found with those already."""
    agree = np.array([part[one] == part[two] for part in parts[:second]])
    return _kept(one, two, agree.sum(axis=0) == 1) if len(one) else (one, two)


def _kept(one: Ints, two: Ints, which: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    return one[which], two[which]


def _differing(one: Values, two: Values) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = np.bitwise_count(one ^ two)
    return found
