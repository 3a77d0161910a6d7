"""Stored pictures → the bytes that a reader wants: as they are where possible, else in another format or a grid.

The same pictures give the same bytes. Knows pixels, no run and no benchmark.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Form
from batchgen.run import images
from batchgen.run.images import Pixels

# WebP without loss, as OneIG's check for black tiles needs it; 100 is Pillow's slowest and smallest, 75 its middle.
LOSSLESS_WEBP = {"lossless": True, "quality": 75, "method": 4}


def shaped(pictures: Sequence[bytes | None], form: Form) -> bytes:
    """One file of these pictures, row by row. None: a black tile."""
    if form.tiles == 1 and pictures[0] is not None and images.is_in(pictures[0], form.format):
        return pictures[0]
    pixels = _grid([None if data is None else images.decode(data) for data in pictures], form)
    if form.format != "webp":
        return images.encode(pixels, form.format)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", **LOSSLESS_WEBP)
    return buffer.getvalue()


def _grid(tiles: Sequence[Pixels | None], form: Form) -> Pixels:
    shapes = {tile.shape for tile in tiles if tile is not None}
    if len(shapes) != 1:
        sizes = ", ".join(sorted(f"{height} × {width}" for height, width, _ in shapes))
        raise Refused(f"images of one prompt have several sizes ({sizes}), and a grid needs one.")
    shape = shapes.pop()
    whole = [np.zeros(shape, np.uint8) if tile is None else tile for tile in tiles]
    lines = [np.hstack(whole[start : start + form.columns]) for start in range(0, form.tiles, form.columns)]
    return np.vstack(lines)
