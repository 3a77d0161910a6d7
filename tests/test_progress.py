"""progress.py: a bar on a terminal, a plain line every ten seconds elsewhere, honest numbers."""

import io

from rich.console import Console

from batchgen.rendering.progress import Display, Tally
from batchgen.words import duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_speed_is_that_of_this_session():
    clock = Clock()
    tally = Tally(100, 40, 0, clock)
    clock.now = 10
    tally.add(18, 2, 1)
    assert tally.images_per_s == 2.0
    assert tally.line() == "60/100 images (60%), 2.00 images/s, 2 failed, 1 suspect, 20 s left"


def test_a_pause_shows_in_the_speed():
    clock = Clock()
    tally = Tally(100, 0, 0, clock)
    clock.now = 10
    tally.add(20, 0, 0)
    clock.now = 40
    assert tally.images_per_s == 0.5


def test_a_log_gets_a_line_every_ten_seconds():
    clock, out = Clock(), io.StringIO()
    tally = Tally(10, 0, 0, clock)
    with Display(tally, Console(file=out, width=120), clock) as display:
        for _ in range(60):
            clock.now += 0.5
            tally.add(0, 0, 0)
            display.update()
        tally.add(10, 0, 0)
    lines = out.getvalue().splitlines()
    assert lines[0] == "starting renderers"
    assert len(lines) == 1 + 3 + 1
    assert lines[-1].startswith("10/10 images (100%)")


def test_before_the_first_shard_it_says_how_long_that_takes():
    clock = Clock()
    tally = Tally(10, 4, 0, clock)
    clock.now = 25
    assert tally.line() == "4/10 images; no shard is finished yet, 25 s since renderers were started"
    out = io.StringIO()
    with Display(tally, Console(file=out, force_terminal=True, width=120), clock) as display:
        display.update()
    assert "no shard is finished yet, 25 s" in out.getvalue()


def test_a_terminal_gets_a_live_bar():
    out = io.StringIO()
    tally = Tally(10, 0, 0, Clock())
    with Display(tally, Console(file=out, force_terminal=True, width=120), Clock()) as display:
        tally.add(4, 1, 0)
        display.update()
    assert "━" in out.getvalue()
    assert "5/10" in out.getvalue()
    assert "1 failed" in out.getvalue()


def test_durations_are_for_people():
    assert [duration(s) for s in (4, 89, 600, 12_000, 200_000)] == ["4 s", "89 s", "10 min", "3 h 20 min", "2 d 7 h"]
