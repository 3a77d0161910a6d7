"""A run is scored shard by shard, each picture decoded once, and whatever a scorer raises is one picture's error."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

import batchgen
from batchgen.demo.reading import scene_of
from batchgen.demo.world import draw, prompt_of, random_scene
from batchgen.errors import Infrastructure, Refused
from batchgen.evaluate.graph import score
from batchgen.evaluate.scores import read_scores, scored_shards, shard_path
from batchgen.evaluate.wanted import Wanted, parse
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run import images
from batchgen.run.layout import data_path
from tests.in_process import render_here

REDNESS = """
import numpy as np

class Redness:
    low, high = 0, 255

    def __init__(self):
        self.batches = []

    def score(self, images, rows):
        self.batches.append(len(images))
        if any(row["prompt"] == "p3" for row in rows):
            raise KeyError("three")
        return [
            {"score": np.asarray(image)[..., 0].mean(), "width": image.width, "batch": len(images), "seed": row["seed"]}
            for image, row in zip(images, rows)
        ]

class Rude:
    def score(self, images, rows):
        return [{"score": float("nan")} if row["prompt"] == "p1" else {"error": "no"} for row in rows]

class Short:
    def score(self, images, rows):
        return []

class NoScorer:
    pass
"""


@pytest.fixture
def redness(tmp_path):
    file = tmp_path / "redness.py"
    file.write_text(REDNESS)
    return f"{file}:Redness"


@pytest.fixture
def run(make_job):
    """Six pictures in three shards, a failure among them: FAIL is what the fake renderer fails at."""
    rows = [{"prompt": f"p{i}", "height": 32, "width": 32 + 16 * (i % 2)} for i in range(6)]
    return render_here(make_plan(prepare(make_job(rows, output={"images_per_shard": 2})))[0])


def table(run, name):
    return read_scores(run.store)[name].table.set_index("image_id")


def test_every_picture_has_its_own_score(run, redness):
    (done,) = score(run, [redness], batch_size=1)
    frame, results = table(run, "redness"), batchgen.open(run.store.url)
    assert (done.shards, done.images, done.errors, done.before) == (len(run.committed()), 6, 1, 0)
    for row in results.to_pandas().to_dict("records"):
        mine = frame.loc[row["image_id"]]
        if row["prompt"] == "p3":
            assert np.isnan(mine["score"])
            assert mine["error"] == "KeyError: 'three'"
        else:
            picture = results.image(row["image_id"])
            assert mine["score"] == pytest.approx(np.asarray(picture)[..., 0].mean())
            assert json.loads(mine["detail"]) == {"width": row["width"], "batch": 1, "seed": row["seed"]}


def test_batches_go_across_shards_and_a_bad_picture_costs_no_other_its_score(run, redness):
    score(run, [redness], batch_size=5)
    frame = table(run, "redness")
    assert frame["error"].notna().sum() == 1
    assert frame["score"].notna().sum() == 5
    sizes = sorted(json.loads(detail)["batch"] for detail in frame["detail"].dropna())
    assert sizes == [1, 1, 1, 1, 1]  # the batch with the bad one was tried one by one, and one was left over


def test_what_is_scored_is_not_scored_again(run, redness, monkeypatch):
    first, *rest = sorted(run.committed())
    score(run, [redness])
    before, files = table(run, "redness")["score"], {n: run.store.read(shard_path("redness", n)) for n in rest}
    run.store.delete(shard_path("redness", first))
    read = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda data: read.append(data) or decode(data))
    (done,) = score(run, [redness])
    assert (done.shards, done.before) == (1, len(rest))
    assert len(read) == done.images
    assert table(run, "redness")["score"].equals(before)
    assert {n: run.store.read(shard_path("redness", n)) for n in rest} == files


def test_two_scorers_decode_a_picture_once(run, redness, monkeypatch):
    read = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda data: read.append(data) or decode(data))
    score(run, [redness, "oracle"])
    assert len(read) == 6
    assert set(read_scores(run.store)) == {"redness", "oracle"}


def test_a_run_that_is_not_finished_is_scored_as_far_as_it_is_there(run, redness):
    last = max(run.committed())
    data = run.store.read(data_path(last))
    run.store.delete(data_path(last))
    (done,) = score(run, [redness])
    assert done.missing == 1
    assert last not in scored_shards(run.store, "redness")
    run.store.create(data_path(last), data)
    (done,) = score(run, [redness])
    assert (done.shards, done.missing) == (1, 0)


def test_no_number_is_not_a_number(run, redness):
    score(
        run,
        [
            redness.replace("Redness", "Rude"),
        ],
    )
    errors = set(table(run, "rude")["error"])
    assert errors == {"the scorer said nan", "no"}
    score(run, [redness.replace("Redness", "Short")])
    assert set(table(run, "short")["error"]) == {"ValueError: 0 scores for 1 pictures"}


def test_another_file_of_the_same_name_is_not_mixed_in(run, redness):
    score(run, [redness])
    Path(redness.rpartition(":")[0]).write_text(REDNESS + "\n# another\n")
    with pytest.raises(Refused, match="holds scores that were made otherwise") as refused:
        score(run, [redness])
    assert "--name redness-2" in str(refused.value)
    score(run, [redness], name="redness-2")
    assert set(read_scores(run.store)) == {"redness", "redness-2"}


def test_a_damaged_file_ends_the_work_in_words(run, redness):
    run.store.replace(data_path(min(run.committed())), b"no parquet")
    with pytest.raises(Infrastructure, match="cannot be read"):
        score(run, [redness])


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["clpi"], "Did you mean clip?"),
        ([], "no scorer is named"),
        (["nowhere.py:Judge"], "is no Python file"),
        (["FILE:NoScorer"], "has no class 'NoScorer' with a method score"),
        (["FILE:Nobody"], "it has ['Redness', 'Rude', 'Short']"),
    ],
)
def test_what_is_no_scorer_is_said_before_anything_is_read(run, redness, wanted, said):
    with pytest.raises(Refused) as refused:
        score(run, [one.replace("FILE", redness.rpartition(":")[0]) for one in wanted])
    assert said in str(refused.value)


def test_all_that_is_wrong_comes_at_once():
    with pytest.raises(Refused) as refused:
        parse(["clip", "oracle", "clop", "olacre"], name="mine")
    assert [len(refused.value.problems), "'clop'" in str(refused.value)] == [3, True]
    assert parse(["clip=DIR", "clip=DIR"]) == [Wanted("clip", "DIR")]


def test_a_prompt_of_the_demo_is_read_as_it_was_meant():
    random = Random(7)
    for _ in range(500):
        scene = random_scene(random)
        assert scene_of(prompt_of(scene, random)) == scene
    with pytest.raises(ValueError, match="no prompt of the demo's world"):
        scene_of("a red circle on a green cat")


def test_the_oracle_judges_the_benchmarks_own_prompt():
    from batchgen.evaluate.scorers.oracle import Oracle

    random = Random(3)
    scene = random_scene(random, "single")
    row = {"prompt": f"{prompt_of(scene, random)}, studio photo", "benchmark_prompt": prompt_of(scene, random)}
    judge, picture = Oracle(), draw(scene, 96, 96, random)
    assert judge.score([judge.prepare(picture, row)], [row])[0].score == 1.0
    wrong = judge.score([judge.prepare(255 - picture, row)], [row])[0]
    assert wrong.score == 0.0
    assert wrong.detail["wrong"]
    with pytest.raises(ValueError, match="no prompt"):
        judge.prepare(picture, {"prompt": row["prompt"]})
