"""The oracle agrees with drawn truth, and does not with anything else."""

from __future__ import annotations

import itertools
import math
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from batchgen.demo.oracle import look, mistakes, shows
from batchgen.demo.world import OUTLINES, SHAPES, SIDES, Scene, Thing, draw, random_scene

CIRCLE_AND_STAR = Scene((Thing("red", "circle"), Thing("blue", "star")), relation="left of", background="white")


def drawn(kind=None, count=400):
    random = Random(f"drawn {kind}")
    for _ in range(count):
        scene = random_scene(random, kind)
        height, width = random.choice(SIDES), random.choice(SIDES)
        if max(height, width) <= 2 * min(height, width):
            yield scene, draw(scene, height, width, random)


@pytest.mark.parametrize("kind", ["single", "two", "counted"])
def test_it_agrees_with_drawn_truth(kind):
    verdicts = [shows(picture, scene) for scene, picture in drawn(kind)]
    assert len(verdicts) > 250
    assert sum(verdicts) >= 0.99 * len(verdicts)


def test_it_agrees_when_edges_are_as_soft_as_a_small_decoder_makes_them():
    soft = [
        shows(np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1))), scene)
        for scene, picture in drawn("single", 200)
    ]
    assert sum(soft) >= 0.97 * len(soft)


def test_a_picture_of_another_scene_is_wrong():
    pairs = list(drawn(count=300))
    for (scene, _), (other, picture) in itertools.pairwise(pairs):
        if (scene.things, scene.count, scene.relation) != (other.things, other.count, other.relation):
            assert not shows(picture, scene), (scene, other)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Scene(CIRCLE_AND_STAR.things, relation="right of"), "the first is not right of the second"),
        (Scene(CIRCLE_AND_STAR.things, relation="above"), "the first is not above the second"),
        (Scene(CIRCLE_AND_STAR.things, relation="left of", background="grey"), "is white, not grey"),
        (Scene((Thing("red", "star"), Thing("blue", "circle")), relation="left of"), "shows"),
        (Scene((Thing("red", "circle"),)), "shows"),
        (Scene((Thing("red", "circle"),), count=2), "shows"),
    ],
)
def test_it_says_what_is_wrong(asked, says):
    picture = draw(CIRCLE_AND_STAR, 64, 128, Random(0))
    assert mistakes(picture, CIRCLE_AND_STAR) == []
    assert says in mistakes(picture, asked)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_takes_no_shape_for_another(shape):
    for seed in range(20):
        picture = draw(Scene((Thing("black", shape),), background="white"), 64, 80, Random(seed))
        for other in SHAPES:
            assert shows(picture, Scene((Thing("black", other),))) == (other == shape)


def test_noise_flatness_and_smears_show_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    flat = np.full((64, 64, 3), 250, np.uint8)
    smear = np.asarray(Image.fromarray(draw(CIRCLE_AND_STAR, 64, 128, Random(0))).filter(ImageFilter.GaussianBlur(9)))
    for picture in (noise, flat, smear):
        assert not shows(picture, CIRCLE_AND_STAR)
        assert not shows(picture, Scene((Thing("red", "circle"),)))
    assert look(flat) == ("white", [])


def test_a_thing_of_two_colours_has_no_name():
    picture = draw(Scene((Thing("red", "square"),), background="white"), 64, 64, Random(0)).copy()
    red = picture[..., 1] < 100
    red[:, : np.flatnonzero(red.any(axis=0)).mean().astype(int)] = False
    picture[red] = (40, 84, 220)
    assert [one.thing for one in look(picture)[1]] == [None]


def test_a_star_that_lost_a_tip_and_one_half_way_to_a_circle_have_no_name():
    star = OUTLINES["star"]
    for tip in range(0, len(star), 2):
        assert look(filled([point for corner, point in enumerate(star) if corner != tip]))[1][0].shape is None
    blob = [(5 / 3 * x, 5 / 3 * y) if corner % 2 else (x, y) for corner, (x, y) in enumerate(star)]
    assert look(filled(blob))[1][0].shape is None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_single_long_tip_does_not_hide_a_shape(shape):
    longest = max(range(len(OUTLINES[shape])), key=lambda corner: math.hypot(*OUTLINES[shape][corner]))
    longer = [(1.15 * x, 1.15 * y) if corner == longest else (x, y) for corner, (x, y) in enumerate(OUTLINES[shape])]
    assert look(filled(longer))[1][0].shape == shape


def filled(outline):
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).polygon([(48 + 36 * x, 48 + 36 * y) for x, y in outline], fill="black")
    return np.asarray(image)
