"""The world that the demo checkpoint draws: coloured shapes, their numbers and places, and the prompts that say so.

A scene is what a prompt asks for; `prompt_of` says it in one of several ways, `draw` shows it. Training, the oracle and
the tests all rest on this one definition. Knows nothing of models.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (221, 39, 39),
    "orange": (255, 140, 0),
    "yellow": (250, 222, 40),
    "green": (34, 150, 62),
    "blue": (40, 84, 220),
    "purple": (132, 40, 176),
    "pink": (255, 158, 200),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "grey": (128, 128, 128),
}
SHAPES = ("circle", "square", "triangle", "star", "heart")
RELATIONS = {  # as the scene names it: as people say it
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "on top of"),
    "below": ("below", "under"),
}
NUMBERS = ("zero", "one", "two", "three")
SIDES = range(64, 161, 16)
OVERSAMPLE = 4  # each pixel is the mean of 4 × 4: smooth edges


@dataclass(frozen=True, slots=True)
class Thing:
    colour: str
    shape: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing, two or three alike, or two things with a relation: `things[0]` is `relation` `things[1]`.

    background: None where the prompt does not say; it is white then, or grey behind something white.
    """

    things: tuple[Thing, ...]
    count: int = 1
    relation: str | None = None
    background: str | None = None

    @property
    def ground(self) -> str:
        return self.background or ("grey" if any(thing.colour == "white" for thing in self.things) else "white")

    @property
    def held_out(self) -> bool:
        """One combination in ten is never trained on, whatever the phrasing. Stable across processes."""
        return zlib.crc32(repr((self.things, self.count, self.relation, self.background)).encode()) % 10 == 0


def random_scene(random: Random, kind: str | None = None) -> Scene:
    """kind: "single", "counted" or "two"; a mixture without one. No thing has its background's colour."""
    kind = kind or random.choices(("single", "counted", "two"), (3, 2, 5))[0]
    first = Thing(random.choice([*COLOURS]), random.choice(SHAPES))
    things: tuple[Thing, ...] = (first,)
    count = random.choice((2, 3)) if kind == "counted" else 1
    relation = None
    if kind == "two":
        others = [Thing(colour, shape) for colour in COLOURS for shape in SHAPES]
        second = random.choice([other for other in others if other != first])
        things, relation = (first, second), random.choice([*RELATIONS])
    used = {thing.colour for thing in things}
    background = random.choice([colour for colour in COLOURS if colour not in used]) if random.random() < 0.7 else None
    scene = Scene(things, count, relation, background)
    return scene if scene.ground not in used else random_scene(random, kind)


def prompt_of(scene: Scene, random: Random) -> str:
    """The scene in plain English, in one of several phrasings."""
    named = [_named(thing, scene.count, random) for thing in scene.things]
    if scene.relation:
        named = [f"{named[0]} {random.choice(RELATIONS[scene.relation])} {named[1]}"]
    opening = random.choice(("", "", "", "a picture of ", "a drawing of "))
    if scene.background is None:
        return opening + named[0]
    article = _article(scene.background)
    where = random.choice((f" on {article} ", " on ", f" against {article} ", ", "))
    return f"{opening}{named[0]}{where}{scene.background} background"


def _named(thing: Thing, count: int, random: Random) -> str:
    if count > 1:
        return f"{NUMBERS[count]} {thing.colour} {thing.shape}s"
    article = _article(thing.colour)
    return random.choice(
        (
            f"{article} {thing.colour} {thing.shape}",
            f"{article} {thing.colour} {thing.shape}",
            f"one {thing.colour} {thing.shape}",
            f"a {thing.shape} in {thing.colour}",
        )
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def draw(scene: Scene, height: int, width: int, random: Random) -> np.ndarray:
    """(height, width, 3) uint8. Sizes and places vary as far as the prompt leaves them open."""
    size = (width * OVERSAMPLE, height * OVERSAMPLE)
    image = Image.new("RGB", size, COLOURS[scene.ground])
    brush = ImageDraw.Draw(image)
    cells = _cells(scene, height, width)
    smallest, largest, freedom = (0.25, 0.4, 0.7) if len(cells) == 1 else (0.34, 0.42, 0.5)
    for thing, (left, top, right, bottom) in zip(scene.things * scene.count, cells, strict=True):
        radius = min(right - left, bottom - top) * random.uniform(smallest, largest)
        x = (left + right) / 2 + random.uniform(-1, 1) * freedom * ((right - left) / 2 - radius)
        y = (top + bottom) / 2 + random.uniform(-1, 1) * freedom * ((bottom - top) / 2 - radius)
        outline = [((x + radius * dx) * OVERSAMPLE, (y + radius * dy) * OVERSAMPLE) for dx, dy in OUTLINES[thing.shape]]
        brush.polygon(outline, fill=COLOURS[thing.colour])
    return np.asarray(image.reduce(OVERSAMPLE))


def _cells(scene: Scene, height: int, width: int) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) for each thing: side by side, or two above one where three would not fit a row."""
    number = len(scene.things) * scene.count
    if number == 3 and max(height, width) < 1.4 * min(height, width):
        x, y = width / 2, height / 2
        return [(0, 0, x, y), (x, 0, width, y), (width / 4, y, 3 * width / 4, height)]
    across = scene.relation in ("left of", "right of") if scene.relation else width >= height
    if across:
        cells = [(width * i / number, 0.0, width * (i + 1) / number, float(height)) for i in range(number)]
    else:
        cells = [(0.0, height * i / number, float(width), height * (i + 1) / number) for i in range(number)]
    return cells[::-1] if scene.relation in ("right of", "below") else cells


def _outlines() -> dict[str, list[tuple[float, float]]]:
    """Polygons within the square from -1 to 1, y downwards."""
    turn = [2 * math.pi * i / 60 for i in range(60)]
    cosines = [(13 * math.cos(t), 5 * math.cos(2 * t), 2 * math.cos(3 * t), math.cos(4 * t)) for t in turn]
    heart = [(16 * math.sin(t) ** 3, a - b - c - d) for t, (a, b, c, d) in zip(turn, cosines, strict=True)]
    spikes = [(math.pi * i / 5, 1.08 if i % 2 == 0 else 0.45) for i in range(10)]
    return {
        "circle": [(math.cos(t), math.sin(t)) for t in turn],
        "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        "triangle": [(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)],
        "star": [(r * math.sin(t), 0.05 - r * math.cos(t)) for t, r in spikes],
        "heart": [(x / 16, (-y - 2.5) / 15) for x, y in heart],
    }


OUTLINES = _outlines()
