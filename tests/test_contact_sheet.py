"""The contact sheet: every picture and its prompt, none lost, nothing distorted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from batchgen.look.contact_sheet import CELL, COLUMNS, FONT, GAP, LINES, SIDE, draw, wrapped


def open_png(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def flat(colour, height=64, width=64):
    return np.full((height, width, 3), colour, np.uint8)


def test_pictures_stand_in_rows_with_their_prompts_beneath():
    colours = [(10 * i, 0, 200) for i in range(COLUMNS + 2)]
    sheet = open_png(draw([flat(colour) for colour in colours], ["a red circle"] * len(colours)))
    assert sheet.shape == (2 * CELL[1] + GAP, COLUMNS * CELL[0] + GAP, 3)
    for i, colour in enumerate(colours):
        left, top = GAP + i % COLUMNS * CELL[0], GAP + i // COLUMNS * CELL[1]
        assert tuple(sheet[top + SIDE // 2, left + SIDE // 2]) == colour
        beneath = sheet[top + SIDE : top + SIDE + 24, left : left + SIDE]
        assert beneath.min() < 60, "no caption"


@pytest.mark.parametrize(("height", "width"), [(64, 128), (160, 64), (1024, 1024), (16, 2048)])
def test_aspect_ratios_are_kept(height, width):
    sheet = open_png(draw([flat((255, 0, 0), height, width)], [""]))
    rows, columns = np.nonzero((sheet == (255, 0, 0)).all(axis=2))
    shown = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(shown) == SIDE
    assert shown[0] / shown[1] == pytest.approx(height / width, rel=0.35 if height == 16 else 0.02)


@pytest.mark.parametrize(
    "caption", ["", "   ", "a red circle", "word " * 200, "x" * 500, "Ünïcode 犬 🐕", "line\nbreak\x00"]
)
def test_captions_fit_beneath_their_picture(caption):
    lines = wrapped(caption)
    assert len(lines) <= LINES
    assert all(FONT.getlength(line) <= SIDE for line in lines)
    assert draw([flat((0, 0, 0))], [caption])


def test_a_long_caption_shows_that_it_goes_on():
    assert wrapped("a red circle") == ["a red circle"]
    lines = wrapped("a blue square left of a yellow star on a grey background " * 5)
    assert len(lines) == LINES
    assert lines[-1].endswith("...")
    assert not lines[0].endswith("...")
