"""No changed bit of a run goes unnoticed: the short version of `python jobs/bench/chaos.py --part flips`."""

import pytest

from tests.flips import a_run, flip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("flips"), "quick")


def test_every_change_is_named_and_none_ends_in_a_traceback(run):
    found = flip(run, 60, seed=1)
    assert (found.flips, found.unnoticed, found.tracebacks) == (60, [], [])
