"""End to end with pictures that mean something: does each stored image show its own row's prompt?"""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from batchgen import session
from batchgen.demo.oracle import look, shows
from batchgen.demo.world import COLOURS, SHAPES, Scene, Thing, prompt_of
from batchgen.job import Renderers
from batchgen.look import contact_sheet
from batchgen.look.lettering import LINE_HEIGHT
from batchgen.look.sample import COLUMNS

SHAPES_TOO = 0.75  # of single things, at small sizes and 20 steps; jobs/bench/demo_quality.py asks 400
SIZES = [(64, 64), (64, 96), (96, 64), (96, 96)]


def scenes():
    """No two agree in colour and background, so that a picture tells whose it is even where its shape is off."""
    order = random.Random("whose")
    pairs = [(colour, ground) for colour in COLOURS for ground in COLOURS if colour != ground]
    return [
        Scene((Thing(colour, order.choice(SHAPES)),), background=ground) for colour, ground in order.sample(pairs, 20)
    ]


@pytest.mark.usefixtures("ray_session")
def test_every_stored_image_shows_its_own_rows_prompt(make_job, console):
    """Mixed sizes, shuffled, two renderers, half of it rendered a second time: nothing may cross over."""
    asked, order = scenes(), random.Random(3)
    rows = [
        {"prompt": prompt_of(scene, order), "height": SIZES[i % 4][0], "width": SIZES[i % 4][1], "scene": i}
        for i, scene in enumerate(asked)
    ]
    order.shuffle(rows)
    sections = {"model": {"preset": "demo"}, "cluster": {"renderers": {"min_size": 2, "max_size": 2}}}
    job = make_job(rows, sampling={"num_inference_steps": 20}, output={"images_per_shard": 4}, **sections)
    session.render(job, console)
    data = sorted(Path(job.output.path, "data").iterdir())
    for file in data[::2]:
        file.unlink()
    one = job.cluster.model_copy(update={"renderers": Renderers()})
    session.render(job.model_copy(update={"cluster": one}), console)

    own, crossed, shapes = 0, [], 0
    stored = pq.read_table(f"{job.output.path}/data").to_pylist()
    whose = {(scene.things[0].colour, scene.background): i for i, scene in enumerate(asked)}
    for row in stored:
        picture = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        assert picture.shape[:2] == (row["height"], row["width"])
        ground, seen = look(picture)
        shown = whose.get((seen[0].colour, ground)) if seen else None
        own += shown == row["scene"]
        crossed += [(row["prompt"], asked[shown])] if shown not in (None, row["scene"]) else []
        shapes += shows(picture, asked[row["scene"]])
    assert sorted(row["scene"] for row in stored) == list(range(len(asked)))
    assert crossed == []
    assert own >= 0.9 * len(asked)
    assert shapes >= SHAPES_TOO * len(asked)


def test_the_demonstration_leaves_a_sheet_of_its_pictures(demo):
    with Image.open(f"{demo.run.store}/contact_sheet.png") as sheet:
        rows = -(-demo.totals.images // COLUMNS)
        assert sheet.height == rows * contact_sheet.CELL[1] + contact_sheet.GAP + LINE_HEIGHT
