"""Counts how often each name was seen, in 16 bytes a name: ten million prompts take 160 MB, not gigabytes.

Knows hashes only. Runs of (96-bit hash, 32-bit count), sorted by the upper 64 bits and merged when they reach equal
length: every look-up is a few binary searches and every hash is stored once. Two different names collide with
probability 10^-15 at ten million rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_DTYPE = np.dtype([("high", np.uint64), ("low", np.uint32), ("count", np.uint32)])
assert _DTYPE.itemsize == 16


class Occurrences:
    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.void]] = []

    def count(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """For each name, in order: how often it has been seen, this time included (1 for a new one)."""
        if not names:
            return np.zeros(0, np.int64)
        high, low = hashes(names)
        order = np.lexsort((low, high))
        high, low = high[order], low[order]
        starts = np.flatnonzero(np.r_[True, (high[1:] != high[:-1]) | (low[1:] != low[:-1])])
        lengths = np.diff(np.r_[starts, len(names)])
        within = np.arange(len(names)) - np.repeat(starts, lengths) + 1  # lexsort is stable: order of names is kept
        before = self._add(high[starts], low[starts], lengths)
        seen = np.empty(len(names), np.int64)
        seen[order] = within + np.repeat(before, lengths)
        return seen

    def _add(
        self, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Add counts of names (distinct, sorted hashes). Returns the counts before."""
        before = np.zeros(len(high), np.int64)
        for run in self._runs:
            at = _find(run, high, low)
            known = at >= 0
            before[known] = run["count"][at[known]]
            run["count"][at[known]] += counts[known].astype(np.uint32)
        new = before == 0
        fresh = np.empty(int(new.sum()), _DTYPE)
        fresh["high"], fresh["low"], fresh["count"] = high[new], low[new], counts[new]
        if len(fresh):
            self._runs.append(fresh)
        while len(self._runs) > 1 and len(self._runs[-1]) * 2 > len(self._runs[-2]):
            self._runs.append(_merged(self._runs.pop(), self._runs.pop()))
        return before


def _merged(one: npt.NDArray[np.void], other: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Two sorted runs as one, in little more than their own memory: sorting them anew would take twice as much."""
    at = np.searchsorted(other["high"], one["high"]) + np.arange(len(one))
    merged = np.empty(len(one) + len(other), _DTYPE)
    others = np.ones(len(merged), bool)
    others[at] = False
    merged[at], merged[others] = one, other
    return merged


def hashes(names: Sequence[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    joined = b"".join(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).digest() for name in names)
    parts = np.frombuffer(joined, np.dtype([("high", "<u8"), ("low", "<u4")]))
    return parts["high"].copy(), parts["low"].copy()


def _find(
    run: npt.NDArray[np.void], high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint32]
) -> npt.NDArray[np.int64]:
    """Index in a sorted run of each hash, -1 where it is not there."""
    first = np.searchsorted(run["high"], high, "left")
    last = np.searchsorted(run["high"], high, "right")
    found = np.where(last > first, first, -1)
    exact = (last - first == 1) & (run["low"][np.minimum(first, len(run) - 1)] == low)
    found[~exact] = -1
    for i in np.flatnonzero(last - first > 1):  # equal upper 64 bits: practically never
        same = np.flatnonzero(run["low"][first[i] : last[i]] == low[i])
        found[i] = first[i] + same[0] if len(same) else -1
    return found
