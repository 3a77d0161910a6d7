"""Reads a prompt of the demo's world back into its scene: the other direction of `world.prompt_of`.

Knows the phrasings of that world and no other English.
"""

from __future__ import annotations

import re

from batchgen.demo.world import COLOURS, NUMBERS, RELATIONS, SHAPES, Scene, Thing

COLOUR, SHAPE = (f"(?:{'|'.join(words)})" for words in (COLOURS, SHAPES))
SAID = {said: relation for relation, ways in RELATIONS.items() for said in ways}
NUMBER = f"(?:{'|'.join(NUMBERS[2:])})"
ONE = rf"(?:(?:an?|one) {COLOUR} {SHAPE}|an? {SHAPE} in {COLOUR})"
PROMPT = re.compile(
    rf"(?:a (?:picture|drawing) of )?"
    rf"(?:(?P<number>{NUMBER}) (?P<many>{COLOUR} {SHAPE})s"
    rf"|(?P<first>{ONE})(?: (?P<said>{'|'.join(sorted(SAID, key=len, reverse=True))}) (?P<second>{ONE}))?)"
    rf"(?:(?:,| (?:on|against))(?: an?)? (?P<ground>{COLOUR}) background)?"
)


def scene_of(prompt: str) -> Scene:
    """Raises ValueError for a prompt of another world."""
    found = PROMPT.fullmatch(prompt)
    if found is None:
        raise ValueError(f"no prompt of the demo's world: {prompt!r}")
    if found["number"]:
        return Scene((_thing(found["many"]),), NUMBERS.index(found["number"]), background=found["ground"])
    things = [_thing(text) for text in (found["first"], found["second"]) if text]
    return Scene(tuple(things), relation=SAID[found["said"]] if found["said"] else None, background=found["ground"])


def _thing(text: str) -> Thing:
    words = text.split()
    return Thing(next(word for word in words if word in COLOURS), next(word for word in words if word in SHAPES))
