"""occurrences.py: counts as a dict would, in 16 bytes a name."""

import tracemalloc
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchgen.plan import occurrences
from batchgen.plan.occurrences import Occurrences


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=8), max_size=12))
def test_counts_as_a_counter_does(blocks):
    seen, expected = Occurrences(), Counter()
    for block in blocks:
        counted = []
        for name in block:
            expected[name] += 1
            counted.append(expected[name])
        assert seen.count(block).tolist() == counted


def test_takes_sixteen_bytes_a_name():
    """As Python counts what is held, to which an array and a list add a few hundred bytes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        seen = Occurrences()
        for start in range(0, 50_000, 5_000):
            assert (seen.count([f"prompt {i}" for i in range(start, start + 5_000)]) == 1).all()
        assert 16 * 50_000 <= tracemalloc.get_traced_memory()[0] - before < 16 * 50_000 + 5_000
        assert (seen.count([f"prompt {i}" for i in range(50_000)]) == 2).all()
        assert tracemalloc.get_traced_memory()[0] - before < 16 * 50_000 + 5_000
    finally:
        tracemalloc.stop()


def test_equal_upper_halves_are_told_apart(monkeypatch):
    def colliding(names):
        return np.zeros(len(names), np.uint64), np.array([ord(name) for name in names], np.uint32)

    monkeypatch.setattr(occurrences, "hashes", colliding)
    seen = Occurrences()
    assert seen.count(["a", "b", "a"]).tolist() == [1, 1, 2]
    assert seen.count(["c", "b"]).tolist() == [1, 2]
