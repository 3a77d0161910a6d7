"""Books and data agree after any schedule of commands: the short version of `python -m tests.schedules 10000`."""

from tests.schedules import violations_of

SCHEDULES = 200


def test_books_and_data_agree_after_any_schedule():
    assert violations_of(range(SCHEDULES)) == {}
