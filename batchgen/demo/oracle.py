"""Does a picture show what its prompt asked for? Colours by their nearest name, shapes by their silhouettes.

Knows the world's palette and outlines, no model and no file: give it pixels and the scene that they should show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from batchgen.demo.world import COLOURS, OUTLINES, Scene, Thing

NAMES = tuple(COLOURS)
PALETTE = np.array([COLOURS[name] for name in NAMES], dtype=np.float32)
GRID = 32  # silhouettes are compared on 32 × 32 cells, whatever their size
# Chosen on drawn scenes and on pictures that a person would not accept.
FAR_FROM_GROUND = 40.0  # RGB distance at which a pixel is no longer the background's
NEAR_A_COLOUR = 60.0  # RGB distance within which a colour has a name
SMALLEST_SHARE = 0.008  # of the picture; anything less is a speck
LEAST_OVERLAP = 0.8  # of a silhouette with the best outline, intersection over union


@dataclass(frozen=True, slots=True)
class Seen:
    """colour, shape: None where they have no name. x, y: its centre in pixels; width, height: of its box."""

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
    wanted = sorted(str(thing) for thing in scene.things * scene.count)
    found = sorted(str(one.thing) for one in seen)
    wrong = []
    if scene.background is not None and ground != scene.background:
        wrong.append(f"the background is {ground}, not {scene.background}")
    if found != wanted:
        wrong.append(f"shows {found}, not {wanted}")
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
    return _name(ground), sorted(seen, key=lambda one: -one.width * one.height)


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
    """The outline that overlaps best when both fill the same box, if it overlaps well."""
    box = Image.fromarray(silhouette.astype(np.uint8) * 255).resize((GRID, GRID), Image.Resampling.BOX)
    filled = np.asarray(box) > 127
    overlaps = {shape: (filled & mask).sum() / max((filled | mask).sum(), 1) for shape, mask in SILHOUETTES.items()}
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return best if overlaps[best] >= LEAST_OVERLAP else None


def _related(scene: Scene, seen: list[Seen]) -> bool:
    first, second = sorted(seen, key=lambda one: one.thing != scene.things[0])
    right, down = (second.x - first.x) / second.width, (second.y - first.y) / second.height
    return {"left of": right, "right of": -right, "above": down, "below": -down}[scene.relation or ""] > 0.5


def _silhouettes() -> dict[str, np.ndarray]:
    """(32, 32) bool each: the outline stretched to fill the box."""
    masks = {}
    for shape, outline in OUTLINES.items():
        points = np.array(outline)
        points = (points - points.min(axis=0)) / np.ptp(points, axis=0) * (8 * GRID - 1)
        image = Image.new("L", (8 * GRID, 8 * GRID))
        ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in points], fill=255)
        masks[shape] = np.asarray(image.reduce(8)) > 127
    return masks


SILHOUETTES = _silhouettes()
