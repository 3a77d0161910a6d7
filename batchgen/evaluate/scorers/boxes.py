"""What boxes say of a prompt's objects: enough of each, in its colour, where it should be, and none that should not be.

The rules are those of GenEval (djghosh13/geneval, MIT) as facts; with boxes of any detector instead of its masks the
verdicts are not GenEval's. Knows boxes, and neither pictures nor models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

THRESHOLD, THRESHOLD_TO_COUNT = 0.3, 0.9  # of a box's score; GenEval's
MOST_BOXES = 16  # of one class
SHRINK = 0.1  # of both sizes: by so much two centres may differ and still be in one place
DIRECTION = 0.5  # share of the whole offset that must lie in a direction


@dataclass(frozen=True, slots=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float
    score: float


Found = Mapping[str, Sequence[Box]]  # class → its boxes, the surest first


def kept(found: Mapping[str, Sequence[Box]], counts: bool) -> dict[str, list[Box]]:
    """The boxes that are sure enough. counts: the prompt is about numbers."""
    threshold = THRESHOLD_TO_COUNT if counts else THRESHOLD
    return {
        name: sorted((box for box in boxes if box.score > threshold), key=lambda box: -box.score)[:MOST_BOXES]
        for name, boxes in found.items()
    }


def mistakes(record: Mapping[str, Any], found: Found, colour_of: Callable[[Box], str]) -> list[str]:
    """What is wrong, in words. record: `include` and `exclude` of a benchmark's line; found: of all its classes."""
    wrong: list[str] = []
    groups: list[Sequence[Box] | None] = []  # of each object so far, for those that stand in relation to it
    for wanted in record.get("include", ()):
        name, count = wanted["class"], int(wanted["count"])
        boxes = list(found.get(name, ()))[:count]
        complaint = None
        if len(boxes) < count:
            complaint = f"{len(boxes)} of {count} {name}"
        elif "color" in wanted and (colours := [colour_of(box) for box in boxes]).count(wanted["color"]) < count:
            complaint = f"{name} is {', '.join(colours)}, not {wanted['color']}"
        elif wanted.get("position"):
            complaint = _misplaced(name, boxes, wanted["position"], groups)
        if complaint:
            wrong.append(complaint)
        groups.append(None if complaint else boxes)
    for unwanted in record.get("exclude", ()):
        number = len(found.get(unwanted["class"], ()))
        if number >= int(unwanted["count"]):
            wrong.append(f"{number} {unwanted['class']}, fewer than {unwanted['count']} wanted")
    return wrong


def _misplaced(
    name: str, boxes: Sequence[Box], position: Sequence[Any], groups: Sequence[Sequence[Box] | None]
) -> str | None:
    """position: relation, and the number of the object to which the boxes stand in it."""
    relation, others = position[0], groups[int(position[1])]
    if others is None:
        return f"{name} has nothing to be {relation}"
    if all(relation in relations(box, other) for box in boxes for other in others):
        return None
    return f"{name} is not {relation} the other"


def relations(first: Box, second: Box) -> set[str]:
    """Where the first lies, seen from the second: by their centres, as far as these differ more than the sizes blur."""
    offsets, beyond = [], []
    for low, high in (("left", "right"), ("top", "bottom")):
        a, b = ((getattr(box, low), getattr(box, high)) for box in (first, second))
        offset = (a[0] + a[1] - b[0] - b[1]) / 2
        blur = SHRINK * (a[1] - a[0] + b[1] - b[0])
        offsets.append(offset)
        beyond.append(math.copysign(max(abs(offset) - blur, 0.0), offset))
    length = math.hypot(*offsets)
    if length == 0:
        return set()
    x, y = (value / length for value in beyond)
    said = {"left of": x < -DIRECTION, "right of": x > DIRECTION, "above": y < -DIRECTION, "below": y > DIRECTION}
    return {relation for relation, holds in said.items() if holds}
