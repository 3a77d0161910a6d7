"""Does a picture show what its prompt asked for? Colours by their nearest name, shapes by their silhouettes.

Knows the world's palette and outlines, no model and no file: give it pixels and the scene that they should show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from batchgen.demo.world import COLOURS, OUTLINES, Scene, Thing

NAMES = tuple(COLOURS)
PALETTE = np.array([COLOURS[name] for name in NAMES], dtype=np.float32)
GRID, REACH = 64, 2.5  # silhouettes are compared on 64 × 64 cells that reach 2.5 standard deviations from their centre
# Chosen on drawn scenes and on pictures that a person would not accept.
FAR_FROM_GROUND = 40.0  # RGB distance at which a pixel is no longer the background's
NEAR_A_COLOUR = 60.0  # RGB distance within which a colour has a name
SMALLEST_SHARE = 0.008  # of the picture; anything less is a speck
OFF_THE_OUTLINE = 0.05  # of its size, on average: a thing has that outline. A star that lost a tip has not


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing in a picture. colour, shape: None if unknown. x, y: its centre; width, height: its box."""

    colour: str | None
    shape: str | None
    x: float
    y: float
    width: int
    height: int

    @property
    def thing(self) -> Thing | None:
        return Thing(self.colour, self.shape) if self.colour and self.shape else None


def shows(picture: np.ndarray, scene: Scene) -> bool:
    """picture: (height, width, 3) uint8."""
    return not mistakes(picture, scene)


def mistakes(picture: np.ndarray, scene: Scene) -> list[str]:
    """What is wrong, in words; empty where the picture shows the scene."""
    ground, seen = look(picture)
    asked = sorted(str(thing) for thing in scene.things * scene.count)
    shown = sorted(str(item.thing) for item in seen)
    wrong = []
    if scene.background is not None and ground != scene.background:
        wrong.append(f"the background is {ground}, not {scene.background}")
    if shown != asked:
        wrong.append(f"shows {shown}, not {asked}")
    elif scene.relation and not _related(scene, seen):
        wrong.append(f"the first is not {scene.relation} the second")
    return wrong


def look(picture: np.ndarray) -> tuple[str | None, list[Seen]]:
    """The background's colour name and every object, the largest first."""
    pixels = picture.astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(border, axis=0)
    labels, count = ndimage.label(np.linalg.norm(pixels - ground, axis=2) > FAR_FROM_GROUND)
    masks = [labels == number for number in range(1, count + 1)]
    seen = [_seen(pixels, mask, ground) for mask in masks if mask.sum() > SMALLEST_SHARE * mask.size]
    return _name(ground), sorted(seen, key=lambda item: -item.width * item.height)


def _seen(pixels: np.ndarray, mask: np.ndarray, ground: np.ndarray) -> Seen:
    core = ndimage.binary_erosion(mask, iterations=2)
    inside = pixels[core if core.any() else mask]
    colour = np.median(inside, axis=0)
    # The outline lies where the colour is as far from the object's as from the background's.
    nearer = np.linalg.norm(pixels - colour, axis=2) < np.linalg.norm(pixels - ground, axis=2)
    solid = ndimage.binary_fill_holes(mask & nearer)
    rows, columns = (np.flatnonzero((solid if solid.any() else mask).any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    shape = _shape(solid[top:bottom, left:right])
    name = _name(colour) if _even(inside, colour) else None
    return Seen(name, shape, (left + right) / 2, (top + bottom) / 2, int(right - left), int(bottom - top))


def _even(inside: np.ndarray, colour: np.ndarray) -> bool:
    """Most of the object has one colour: a mixture of two is neither."""
    return bool((np.linalg.norm(inside - colour, axis=1) < NEAR_A_COLOUR).mean() > 0.75)


def _name(colour: np.ndarray) -> str | None:
    distances = np.linalg.norm(PALETTE - colour, axis=1)
    return NAMES[int(distances.argmin())] if distances.min() < NEAR_A_COLOUR else None


def _shape(silhouette: np.ndarray) -> str | None:
    """The outline that overlaps best when both have one centre and one spread, if it overlaps well."""
    framed = _framed(silhouette)
    overlaps = {shape: (framed & mask).sum() / max((framed | mask).sum(), 1) for shape, mask in SILHOUETTES.items()}
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return best if overlaps[best] >= LEAST_OVERLAP[best] else None


def _framed(silhouette: np.ndarray) -> np.ndarray:
    """(64, 64) bool: centre and spread made the same for all. A box would hang on the outermost pixel of each tip."""
    rows, columns = np.nonzero(silhouette)
    steps = REACH * ((np.arange(GRID) + 0.5) / (GRID / 2) - 1)
    places = np.meshgrid(rows.mean() + steps * rows.std(), columns.mean() + steps * columns.std(), indexing="ij")
    return np.asarray(ndimage.map_coordinates(silhouette.astype(np.float32), places, order=1) > 0.5)


def _related(scene: Scene, seen: list[Seen]) -> bool:
    """Whether the two things stand to each other as the scene says: at least half of the second one's size apart."""
    first, second = sorted(seen, key=lambda item: item.thing != scene.things[0])
    if scene.relation in ("left of", "right of"):
        apart = (second.x - first.x) / second.width
    else:
        apart = (second.y - first.y) / second.height
    return apart > 0.5 if scene.relation in ("left of", "above") else apart < -0.5


def _drawn(shape: str) -> np.ndarray:
    image = Image.new("L", (300, 300))
    ImageDraw.Draw(image).polygon([(150 + 100 * x, 150 + 100 * y) for x, y in OUTLINES[shape]], fill=255)
    return np.asarray(image) > 127


def _least_overlap(shape: str) -> float:
    """Intersection over union of an outline with one that lies OFF_THE_OUTLINE, half of it inside and half outside.

    Long outlines lose more: with 0.8 for all, stars that anybody would call stars had no name.
    """
    x, y = np.array(OUTLINES[shape]).T
    dx, dy = np.roll(x, -1) - x, np.roll(y, -1) - y
    area = abs((x * dy - y * dx).sum()) / 2
    differs = OFF_THE_OUTLINE * np.hypot(dx, dy).sum() / math.sqrt(area)
    return float((1 - differs / 2) / (1 + differs / 2))


SILHOUETTES = {shape: _framed(_drawn(shape)) for shape in OUTLINES}
LEAST_OVERLAP = {shape: _least_overlap(shape) for shape in OUTLINES}
