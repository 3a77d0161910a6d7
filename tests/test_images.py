"""Pixels to files and back: exact where promised, near where lossy, the same bytes every time."""

from __future__ import annotations

import io
import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from batchgen.job import Output
from batchgen.run import images


def picture(height: int = 96, width: int = 64, seed: int = 0) -> images.Pixels:
    """Smooth with a little noise, like a photograph."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(rows / 9 + columns / 14), np.cos(rows / 6), np.sin(columns / 20)], axis=-1)
    noise = np.random.default_rng(seed).normal(0, 2, waves.shape)
    return np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)


def test_every_format_of_a_job_is_known() -> None:
    assert set(images.FORMATS) == set(Output.model_fields["image_format"].annotation.__args__)


def test_png_is_exact() -> None:
    pixels = picture()
    assert np.array_equal(images.decode(images.encode(pixels, "png")), pixels)


@pytest.mark.parametrize("image_format", ["webp", "jpeg"])
def test_lossy_formats_stay_near(image_format: str) -> None:
    pixels = picture()
    decoded = images.decode(images.encode(pixels, image_format))
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).mean() < 3


def test_jpeg_keeps_the_resolution_of_colour() -> None:
    """4:2:0 would mix one-pixel stripes of red and blue to purple."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 0::2] = (255, 0, 0)
    pixels[:, 1::2] = (0, 0, 255)
    decoded = images.decode(images.encode(pixels, "jpeg")).astype(int)
    assert np.abs(decoded - pixels).max() < 60


@pytest.mark.parametrize("image_format", images.FORMATS)
def test_the_same_pixels_give_the_same_bytes_in_every_process(image_format: str) -> None:
    code = (
        "import sys; from batchgen.run import images; from tests.test_images import picture; "
        f"sys.stdout.buffer.write(images.encode(picture(), {image_format!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == images.encode(picture(), image_format)


@pytest.mark.parametrize("image_format", images.FORMATS)
def test_files_say_nothing_but_the_picture(image_format: str) -> None:
    with Image.open(io.BytesIO(images.encode(picture(), image_format))) as opened:
        assert opened.format == image_format.upper()
        assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
        assert not opened.getexif()


def test_views_are_encoded_as_they_look() -> None:
    pixels = picture()
    turned = pixels[::-1, ::-2]
    assert np.array_equal(images.decode(images.encode(turned, "png")), turned)
    assert images.pixel_sha256(turned) == images.pixel_sha256(turned.copy())


def test_pixel_sha256_is_over_rgb_bytes_row_by_row() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert images.pixel_sha256(pixels) == "fff3a9bcdd37363d703c1c4f9512533686157868f0d4f16a0f02d0f1da24f9a2"


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    calls = [lambda p: images.encode(p, "png"), images.pixel_sha256, images.suspect, images.phash]
    for call in calls:
        with pytest.raises(ValueError, match="pixels must be uint8"):
            call(pixels)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (12, 99, 201)])
def test_one_colour_is_suspect(colour: tuple[int, int, int]) -> None:
    pixels = np.full((64, 64, 3), colour, np.uint8)
    assert images.suspect(pixels) == "uniform"
    pixels[::2, ::2, 0] ^= 1  # the last bit is not seen
    assert images.suspect(pixels) == "uniform"


def test_pictures_are_not_suspect() -> None:
    assert images.suspect(picture()) is None
    one_channel = np.zeros((64, 64, 3), np.uint8)
    one_channel[:32, :, 2] = 40
    assert images.suspect(one_channel) is None


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_phash_is_near_for_near_pictures_and_far_for_others() -> None:
    pixels = picture(256, 256)
    own = images.phash(pixels)
    assert len(own) == 16
    assert distance(own, images.phash(images.decode(images.encode(pixels, "jpeg")))) <= 4
    assert distance(own, images.phash(np.ascontiguousarray(pixels[:, ::-1]))) > 10


@pytest.mark.parametrize("image_format", images.FORMATS)
def test_broken_files_are_one_kind_of_error(image_format: str) -> None:
    data = images.encode(picture(), image_format)
    gif = io.BytesIO()
    Image.fromarray(picture()).save(gif, "GIF")
    for broken in (b"", b"<html>", data[: len(data) // 2], gif.getvalue()):
        with pytest.raises(ValueError, match="not a readable picture"):
            images.decode(broken)


@pytest.mark.parametrize("image_format", images.FORMATS)
def test_damage_leads_to_no_other_error(image_format: str) -> None:
    data = images.encode(picture(16, 8), image_format)
    chance = random.Random(0)
    found = []
    for _ in range(3000):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(len(data))] = chance.randrange(256)
        try:
            images.decode(bytes(broken))
        except ValueError as error:
            found.append(str(error))
    assert len(found) > 300
    assert all(message.startswith("not a readable picture: ") for message in found)


def test_a_picture_that_is_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its header, before memory is taken for it."""
    data = images.encode(picture(), "png")
    monkeypatch.setattr(images, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(ValueError, match="more than 6143"):
        images.decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 64 - 1)  # Pillow warns, and warnings are errors here
    with pytest.raises(ValueError, match="not a readable picture"):
        images.decode(data)


def test_decoded_pixels_can_be_written_to() -> None:
    images.decode(images.encode(picture(), "png"))[0, 0] = 0


@pytest.mark.parametrize("image_format", images.FORMATS)
def test_quality_decides_the_bytes_of_formats_that_have_one(image_format: str) -> None:
    pixels, usual = picture(), images.usual_quality(image_format)
    sizes = [len(images.encode(pixels, image_format, quality)) for quality in (30, 60, usual)]
    assert images.encode(pixels, image_format, usual) == images.encode(pixels, image_format)
    assert (sizes == sorted(set(sizes))) == (image_format != "png")
