"""Books and data agree after any schedule of commands: the short version of `python -m tests.schedules 10000`."""

import pytest

from tests.schedules import violations_of

SCHEDULES, AT_ONCE = 200, 25


@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_ONCE))
def test_books_and_data_agree_after_any_schedule(first):
    assert violations_of(range(first, first + AT_ONCE)) == {}
