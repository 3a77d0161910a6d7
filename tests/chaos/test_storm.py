"""A minute of killing, with one driver and with three at once; tests/render/test_kill.py is in the quick suite."""

import random

import pytest

from tests.storm import some_kills, weather


@pytest.mark.parametrize("drivers", [1, 3])
def test_a_storm_of_kills_loses_and_changes_nothing(tmp_path, drivers):
    chosen = random.Random(drivers)
    damage = weather(tmp_path, str(tmp_path), some_kills(20, chosen), chosen, drivers)
    assert (damage.kills, damage.is_none) == (20, True), damage


def test_a_storm_on_s3(tmp_path, s3_url):
    chosen = random.Random(3)
    damage = weather(tmp_path, s3_url, some_kills(20, chosen), chosen)
    assert (damage.kills, damage.is_none) == (20, True), damage
