"""What boxes say of a prompt's objects: number, colour, place, and what should not be there."""

import pytest

from batchgen.evaluate.scorers.boxes import Box, kept, mistakes, relations


def box(x, y, size=10.0, score=0.95):
    return Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2, score)


DOG, CAT = {"class": "dog", "count": 1}, {"class": "cat", "count": 1}


@pytest.mark.parametrize(
    ("record", "found", "said"),
    [
        ({"include": [DOG]}, {"dog": [box(0, 0)]}, []),
        ({"include": [DOG, CAT]}, {"dog": [box(0, 0)], "cat": []}, ["0 of 1 cat"]),
        ({"include": [DOG | {"count": 2}]}, {"dog": [box(0, 0)]}, ["1 of 2 dog"]),
        ({"include": [DOG | {"color": "red"}]}, {"dog": [box(0, 0)]}, []),
        ({"include": [DOG | {"color": "blue"}]}, {"dog": [box(0, 0)]}, ["dog is red, not blue"]),
        (
            {"include": [DOG], "exclude": [DOG | {"count": 2}]},
            {"dog": [box(0, 0), box(50, 0)]},
            ["2 dog, fewer than 2 wanted"],
        ),
        ({"include": [DOG, CAT | {"position": ["left of", 0]}]}, {"dog": [box(50, 0)], "cat": [box(0, 0)]}, []),
        (
            {"include": [DOG, CAT | {"position": ["right of", 0]}]},
            {"dog": [box(50, 0)], "cat": [box(0, 0)]},
            ["cat is not right of the other"],
        ),
        (
            {"include": [DOG, CAT | {"position": ["left of", 0]}]},
            {"dog": [], "cat": [box(0, 0)]},
            ["0 of 1 dog", "cat has nothing to be left of"],
        ),
    ],
)
def test_what_is_wrong_is_said(record, found, said):
    assert mistakes(record, found, lambda one: "red") == said


def test_places_are_those_of_centres_that_differ_enough():
    assert relations(box(0, 0), box(50, 0)) == {"left of"}
    assert relations(box(0, 50), box(0, 0)) == {"below"}
    assert relations(box(-40, -40), box(0, 0)) == {"left of", "above"}
    assert relations(box(2, 0), box(0, 0)) == set()  # both are 10 wide: 2 is within the blur
    assert relations(box(0, 0), box(0, 0)) == set()


def test_counting_asks_for_surer_boxes_and_no_class_has_more_than_sixteen():
    found = {"dog": [box(0, 0, score=0.5), box(0, 0, score=0.95), box(0, 0, score=0.2)]}
    assert [one.score for one in kept(found, counts=False)["dog"]] == [0.95, 0.5]
    assert [one.score for one in kept(found, counts=True)["dog"]] == [0.95]
    assert len(kept({"dog": [box(0, 0)] * 20}, counts=False)["dog"]) == 16
