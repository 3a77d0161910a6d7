"""HPSv2's way to make a picture fit: the longest side 224 pixels, black around it, nothing cropped.

CLIP's usual preprocessing cuts the sides off whatever is not square, and what stands there counts for a preference.
After hpsv2/src/open_clip/transform.py (ResizeMaxSize) at commit 866735e. Knows pixels and no model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from batchgen.evaluate.scorers.cosines import Input
from batchgen.evaluate.scorers.models import PREPROCESSOR, ModelFiles
from batchgen.run.images import Pixels
from batchgen.weights.digests import read_json

MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's CLIP, which every later one took over
STD = (0.26862954, 0.26130258, 0.27577711)


def padded_to(files: ModelFiles) -> Callable[[Pixels], Input]:
    """Preprocessing for this model: its side, mean and spread."""
    said = read_json(files.directory / PREPROCESSOR) or {}
    side = int(files.config.get("vision_config", {}).get("image_size", 224))
    mean, std = (
        np.array(said.get(key, usual), np.float32) for key, usual in (("image_mean", MEAN), ("image_std", STD))
    )

    def prepare(pixels: Pixels) -> Input:
        whole = np.asarray(pad(Image.fromarray(pixels), side), np.float32) / 255
        return np.ascontiguousarray(((whole - mean) / std).transpose(2, 0, 1))

    return prepare


def pad(picture: Image.Image, side: int) -> Image.Image:
    """A square of this side with the whole picture in its middle, on black."""
    scale = side / max(picture.size)
    width, height = (round(length * scale) for length in picture.size)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(picture.resize((width, height), Image.Resampling.BICUBIC), ((side - width) // 2, (side - height) // 2))
    return canvas
