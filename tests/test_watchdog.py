"""watchdog.py: items pass, silence ends, signs of life prolong, errors arrive where one waits."""

import threading
import time

import pytest

from batchgen.cluster import watchdog
from batchgen.cluster.watchdog import Patience, Stalled, watched


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watchdog, "IDLE_S", 0.01)


def items(*steps):
    """Numbers are waits, everything else is an item."""
    for step in steps:
        if isinstance(step, float):
            time.sleep(step)
        else:
            yield step


def test_items_pass_in_order():
    assert list(watched(items("a", 0.05, "b"), Patience(), lambda: 0, lambda: None)) == ["a", "b"]


def test_silence_is_stalled():
    source = watched(items("a", 5.0, "b"), Patience(first_s=1.0, least_s=0.1, factor=1.0), lambda: 0, lambda: None)
    assert next(source) == "a"
    with pytest.raises(Stalled, match="no sign of life"):
        next(source)


def test_the_first_wait_has_a_limit_of_its_own():
    with pytest.raises(Stalled):
        list(watched(items(5.0), Patience(first_s=0.1), lambda: 0, lambda: None))


def test_signs_of_life_prolong_the_wait():
    beats = iter(range(1000))
    patience = Patience(first_s=0.05, least_s=0.05, factor=1.0)
    assert list(watched(items("a", 0.5, "b"), patience, lambda: next(beats), lambda: None)) == ["a", "b"]


def test_patience_grows_with_what_was_waited_for():
    patience = Patience(first_s=5.0, least_s=0.01, factor=10.0)
    assert list(watched(items(0.1, "a", 0.3, "b"), patience, lambda: 0, lambda: None)) == ["a", "b"]


def test_an_error_of_the_source_is_raised_here():
    def failing():
        yield 1
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(watched(failing(), Patience(), lambda: 0, lambda: None))


def test_idle_is_called_while_waiting():
    calls, often = [], threading.Event()

    def until_often():
        yield often.wait(30)

    def idle():
        calls.append(1)
        if len(calls) > 3:
            often.set()

    assert list(watched(until_often(), Patience(), lambda: 0, idle)) == [True]


def test_closing_closes_the_source():
    ended = threading.Event()

    def endless():
        try:
            while True:
                time.sleep(0.01)
                yield 1
        finally:
            ended.set()

    source = watched(endless(), Patience(), lambda: 0, lambda: None)
    next(source)
    source.close()
    assert ended.wait(2)
