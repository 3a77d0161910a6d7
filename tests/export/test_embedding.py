"""What is written into pictures is read by others, changes no pixel, and says nothing of where they were made."""

import io
import json
import re
import struct
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from batchgen.export.embedding import embedded, fits
from batchgen.export.parameters import parameters
from batchgen.run import images

SETTINGS = {
    "model": {"pretrained_model_name_or_path": "/home/canary/model", "mirror": "s3://canary/x"},
    "sampling": {"sampler": "dpmpp_2m", "schedule": "sgm_uniform", "shift": 3.0},
}
VALUES = {
    "image_id": "0" * 26,
    "prompt": "a red circle, on a box",
    "negative_prompt": "blurry",
    "num_inference_steps": 28,
    "guidance_scale": 4.5,
    "seed": 2**63 - 1,
    "height": 64,
    "width": 48,
    "model": "/home/canary/sd3.5, medium",
    "revision": None,
    "file": "data/canary.parquet",
    "device": "canary",
    "settings": json.dumps(SETTINGS),
    "versions": json.dumps({"batchgen": "0.1.0", "torch": "2"}),
}
LAST = (
    "Steps: 28, Sampler: DPM++ 2M, Schedule type: SGM Uniform, CFG scale: 4.5, Seed: 9223372036854775807, Size: 48x64, "
    'Shift: 3, Model: "sd3.5, medium", Version: batchgen 0.1.0'
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
FORMATS = [("png", {}), ("jpeg", {"quality": 90}), ("webp", {"quality": 90}), ("webp", {"lossless": True})]


def encoded(image_format, options, height=64, width=48, mode="RGB", seed=0, **more):
    shape = (height, width, len(mode))
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, image_format.upper(), **options, **more)
    return buffer.getvalue()


def opened(data):
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def told(data):
    """The parameters, as the web UI and others read them."""
    picture = opened(data)
    if picture.format == "PNG":
        return picture.info.get("parameters")
    comment = picture.getexif().get_ifd(0x8769).get(0x9286)
    if comment is None:
        return None
    assert comment[:8] == b"UNICODE\0"
    return comment[8:].decode("utf-16-be")


def pixels(data):
    return np.asarray(opened(data))


def source(data):
    tree = ElementTree.fromstring(re.sub(rb"<\?xpacket[^>]*\?>", b"", opened(data).info["xmp"]))
    return [
        value
        for element in tree.iter()
        for name, value in element.attrib.items()
        if name == "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    ]


@pytest.mark.parametrize(("image_format", "options"), FORMATS)
@given(
    prompt=TEXTS,
    negative=st.none() | TEXTS,
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_any_text_in_any_picture(image_format, options, prompt, negative, height, width, seed):
    data = encoded(image_format, options, height, width, seed=seed)
    values = VALUES | {"prompt": prompt, "negative_prompt": negative}
    made = embedded(data, image_format, values)
    assert told(made) == parameters(values)
    assert np.array_equal(pixels(made), pixels(data))
    assert np.array_equal(images.decode(made), images.decode(data))
    assert images.is_in(made, image_format)
    assert source(made) == ["http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"]
    assert embedded(data, image_format, values) == made
    assert embedded(made, image_format, values) == made, "what was there is replaced"


def test_the_text_is_that_of_the_web_ui():
    assert parameters(VALUES) == f"a red circle, on a box\nNegative prompt: blurry\n{LAST}"
    assert parameters(VALUES | {"negative_prompt": None}) == f"a red circle, on a box\n{LAST}"
    assert parameters({"prompt": "adopted"}) == "adopted"


def test_its_readers_find_every_setting():
    """By the pattern that the web UI and those who follow it read the last line with."""
    found = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', LAST))
    assert found == {
        "Steps": "28", "Sampler": "DPM++ 2M", "Schedule type": "SGM Uniform", "CFG scale": "4.5", "Shift": "3",
        "Seed": "9223372036854775807", "Size": "48x64", "Model": '"sd3.5, medium"', "Version": "batchgen 0.1.0",
    }  # fmt: skip
    assert json.loads(found["Model"]) == "sd3.5, medium"


def test_what_a_cell_says_is_said():
    swept = json.dumps(SETTINGS | {"swept": ["sampler", "cell"]})
    assert "Sampler: Euler," in parameters(VALUES | {"settings": swept, "sampler": "euler"})
    assert "Sampler: DPM++ 2M," in parameters(VALUES | {"sampler": "a column of the table"})
    other = json.dumps(SETTINGS | {"pipeline": "FluxPipeline"})
    assert "Sampler" not in parameters(VALUES | {"settings": other}), "its scheduler is its own"


@pytest.mark.parametrize(("image_format", "options"), FORMATS)
def test_nothing_of_the_house_is_in_it(image_format, options):
    made = embedded(encoded(image_format, options), image_format, VALUES)
    both = made + made.replace(b"\0", b"")
    assert b"canary" not in both
    assert b"/home" not in both


def test_latin_text_is_what_every_reader_reads():
    data = encoded("png", {})
    assert b"tEXtparameters\0" in embedded(data, "png", VALUES | {"prompt": "süß"})
    assert b"iTXtparameters\0" in embedded(data, "png", VALUES | {"prompt": "円"})


def test_exif_is_what_piexif_writes():
    """Byte for byte: {"Exif": {UserComment: "UNICODE" and UTF-16}}, as the web UI's files have it."""
    comment = b"UNICODE\0" + "Aé".encode("utf-16-be")
    wanted = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIII", 1, 0x8769, 4, 1, 26, 0)
    wanted += struct.pack(">HHHIII", 1, 0x9286, 7, len(comment), 44, 0) + comment
    made = embedded(encoded("jpeg", {}), "jpeg", {"prompt": "Aé"})
    assert made[20:24] == b"\xff\xe1" + struct.pack(">H", len(wanted) + 8), "behind JFIF's 18 bytes"
    assert made[24:].startswith(b"Exif\0\0" + wanted)
    assert made[24 + 6 + len(wanted) :].startswith(b"\xff\xe1")
    assert made[24 + 6 + len(wanted) + 4 :].startswith(b"http://ns.adobe.com/xap/1.0/\0<?xpacket")


@pytest.mark.parametrize(("image_format", "options"), FORMATS)
def test_a_long_prompt_is_told_whole_or_not_at_all(image_format, options):
    data, rest = encoded(image_format, options), len(parameters(VALUES | {"prompt": ""}))
    most = (65_533 - 6 - 44 - 8) // 2 - rest
    just, long = ({**VALUES, "prompt": "x" * most}, {**VALUES, "prompt": "x" * (most + 1)})
    assert told(embedded(data, image_format, just)) == parameters(just)
    assert fits(image_format, just)
    made = embedded(data, image_format, long)
    assert fits(image_format, long) == (image_format != "jpeg")
    assert told(made) == (None if image_format == "jpeg" else parameters(long))
    assert np.array_equal(pixels(made), pixels(data))
    assert source(made)


def test_what_pictures_of_elsewhere_bring_along_goes():
    exif = Image.Exif()
    exif[0x013B] = "canary"  # Artist
    info = PngInfo()
    info.add_text("parameters", "canary")
    info.add_text("Author", "canary", zip=True)
    info.add_itxt("Comment", "canary")
    profile = b"a profile of colours"
    pictures = {
        "png": encoded("png", {}, pnginfo=info, exif=exif, icc_profile=profile, dpi=(72, 72)),
        "jpeg": encoded("jpeg", {}, exif=exif, comment=b"canary", icc_profile=profile, xmp=b"<canary/>"),
        "webp": encoded("webp", {}, exif=exif, icc_profile=profile, xmp=b"<canary/>"),
    }
    for image_format, data in pictures.items():
        made = embedded(data, image_format, VALUES)
        assert b"canary" not in made
        assert made.count(b"Exif\0\0") == (image_format == "jpeg")
        assert opened(made).info["icc_profile"] == profile
        assert told(made) == parameters(VALUES)
        assert source(made)
        assert np.array_equal(pixels(made), pixels(data))


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}], ids=["VP8L", "VP8"])
def test_webp_with_transparency_keeps_it(options):
    data = encoded("webp", options | {"exact": True}, mode="RGBA")
    made = embedded(data, "webp", VALUES)
    assert opened(made).mode == "RGBA"
    assert np.array_equal(pixels(made), pixels(data))
    assert made[12:16] == b"VP8X"
    assert made[20] == 0x1C, "alpha, EXIF and XMP"


def test_jpegs_of_other_colours_keep_adobes_word():
    data = encoded("jpeg", {"keep_rgb": True})
    assert b"Adobe" in data
    assert np.array_equal(pixels(embedded(data, "jpeg", VALUES)), pixels(data))


@pytest.mark.parametrize(("image_format", "options"), FORMATS)
def test_what_is_no_whole_picture_is_said(image_format, options):
    data = encoded(image_format, options)
    for broken in (b"", data[:10], data[: len(data) // 2] if image_format != "jpeg" else data[:30], b"x" + data[1:]):
        with pytest.raises(ValueError, match="not a"):
            embedded(broken, image_format, VALUES)


@pytest.mark.parametrize(("image_format", "options"), FORMATS)
def test_it_takes_microseconds(image_format, options):
    """20,000 pictures of 20 kB in a second are promised; a busy machine may take five times as long."""
    data = encoded(image_format, options, 80, 80)
    began = time.perf_counter()
    for _ in range(200):
        embedded(data, image_format, VALUES)
    assert (time.perf_counter() - began) / 200 < 5 / 20_000
