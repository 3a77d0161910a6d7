"""Pixels to PNG, WebP or JPEG and back, and what can be said of pixels alone: digest, suspicion, perceptual hash.

Pixels are uint8 arrays of shape (height, width, 3), RGB. Knows no storage, no prompts and no models.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # Pillow's own limit; above it Pillow only warns
BROKEN = (OSError, SyntaxError, ValueError)  # what Pillow raises for damaged files, by format
UNIFORM_STD = 1.0  # levels of 255, per channel: below it the picture is one colour to the eye


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """extension: without a dot. options: what decides the bytes, handed to Pillow's writer."""

    extension: str
    options: dict[str, Any]
    lossless: bool = False


FORMATS = {
    # zlib level 4 is the first that searches lazily: the size of level 6 in half the time. 1024 × 1024 photographs,
    # Pillow 13, one core: level 1 0.06 s and 1.24 MB, level 4 0.10 s and 1.06 MB, level 6 0.27 s and 1.06 MB.
    "png": ImageFormat("png", {"compress_level": 4}, lossless=True),
    "webp": ImageFormat("webp", {"quality": 90, "method": 4}),
    # 4:4:4: coarser chroma smears the red letters and thin lines that prompt adherence is judged by.
    "jpeg": ImageFormat("jpg", {"quality": 95, "subsampling": 0}),
}


def encode(pixels: Pixels, image_format: str, quality: int | None = None) -> bytes:
    """One of FORMATS. The same pixels give the same bytes: no time, no software name, no metadata.

    quality: 1 to 100, for formats that have one; None takes that of FORMATS.
    """
    _check(pixels)
    options = FORMATS[image_format].options | ({} if quality is None else {"quality": quality})
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format.upper(), **options)
    return buffer.getvalue()


def usual_quality(image_format: str) -> int | None:
    """What encode() takes where nothing is said; None for a format that loses nothing."""
    quality: int | None = FORMATS[image_format].options.get("quality")
    return quality


def decode(data: bytes) -> Pixels:
    """The pixels of an encoded picture. ValueError: not a whole PNG, WebP or JPEG, or larger than MAX_PIXELS.

    Damage inside the pixels may pass: Pillow does not check the sums of PNG's pixel data. pixel_sha256 tells.
    """
    try:
        # Pillow reads the size from the header, before any memory is taken for pixels.
        with Image.open(io.BytesIO(data), formats=[name.upper() for name in FORMATS]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.height} × {picture.width} pixels are more than {MAX_PIXELS}")
            return np.array(picture.convert("RGB"))
    except (*BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"not a readable picture: {error}") from error


def is_in(data: bytes, image_format: str) -> bool:
    """Whether these bytes begin as a picture of this format, one of FORMATS."""
    try:
        with Image.open(io.BytesIO(data), formats=[image_format.upper()]):
            return True
    except (*BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False


def pixel_sha256(pixels: Pixels) -> str:
    """Over the raw RGB bytes, row by row: independent of the image format."""
    _check(pixels)
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def suspect(pixels: Pixels) -> str | None:
    """Why the picture looks like a failure, or None. A black picture may be what the prompt asked for: a hint only."""
    _check(pixels)
    # Per channel: pure red is as flat as black, though its channels differ. A strided view each is 6 times as fast
    # as std(axis=(0, 1)).
    if all(float(pixels[..., channel].std()) < UNIFORM_STD for channel in range(3)):
        return "uniform"
    return None


def phash(pixels: Pixels) -> str:
    """Perceptual hash: 64 bits as 16 hex digits; near pictures differ in few bits."""
    import imagehash  # scipy comes with its first use: 0.1 s

    _check(pixels)
    return str(imagehash.phash(Image.fromarray(pixels)))


def _check(pixels: Pixels) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"pixels must be uint8 (height, width, 3), not {pixels.dtype} {pixels.shape}")
