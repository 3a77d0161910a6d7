"""Sharding: full batches but for the last of a bucket, one bucket a shard, names of repeats, bounded memory."""

import json
import random
import re

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.job.file import job_from
from batchgen.job.pipelines import SD3, Pipeline
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.manifest.sources import find_sources
from batchgen.plan.sharding import Sharder
from batchgen.rows import buckets
from batchgen.rows.expand import expand_in_parts
from batchgen.rows.expansion import Expansion
from batchgen.rows.tokens import TokenCounter
from tests.specs import files_of

SIZES = [(32, 32), (32, 64), (64, 32), (48, 48)]


@pytest.fixture(scope="module")
def counter():
    return TokenCounter.load(DEMO_CHECKPOINT)


@pytest.fixture
def shard(tmp_path, counter):
    """shard(rows, cut=n, **sections) → (shards, sharder); the tables of a piece are cut into slices of n rows."""

    def run(rows, cut=None, pipeline=None, **sections):
        (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
        values = {
            "input": {"path": str(tmp_path / "p.jsonl")},
            "model": {"preset": "fake"},
            "output": {"path": str(tmp_path / "run")},
        }
        job = job_from({name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}})
        found = find_sources(job.input)
        expansion = Expansion.of(job, found.extras, files_of(), pipeline)
        sharder, shards = Sharder(job, expansion, found), []
        for number, source in enumerate(found.items):
            for table in expand_in_parts(source, expansion, counter):
                for start in range(0, len(table), cut or len(table)):
                    shards += sharder.add(number, table.slice(start, cut or len(table)))
        shards += sharder.finish()
        return shards, sharder

    return run


def mixed(count, seed=0):
    chosen = random.Random(seed)
    return [
        {"prompt": f"p{i}", **dict(zip(("height", "width"), chosen.choice(SIZES), strict=True))} for i in range(count)
    ]


@pytest.mark.parametrize(("batch_size", "images_per_shard"), [(4, 8), (4, 10), (3, 1), (16, 20), (1, 5), (5, "auto")])
def test_all_batches_are_full_but_one_a_bucket(shard, batch_size, images_per_shard):
    shards, sharder = shard(mixed(150), model={"batch_size": batch_size}, output={"images_per_shard": images_per_shard})
    short = [item.label for item in shards if len(item.rows) % item.batch_size]
    assert len(short) == len(set(short)), "at most one short batch a bucket"
    assert sum(len(item.rows) for item in shards) == sharder.summary.images == 150
    assert [item.number for item in shards] == list(range(len(shards)))
    for item in shards:
        sizes = set(zip(item.rows["height"].to_pylist(), item.rows["width"].to_pylist(), strict=True))
        assert len(sizes) == 1, "no shard mixes buckets"
        assert set(item.rows["batch_size"].to_pylist()) == {item.batch_size}
        assert set(item.rows["shard"].to_pylist()) == {item.number}


def test_everything_of_the_bucket_key_parts_shards(shard):
    rows = [{"prompt": "a"}, {"prompt": "b", "guidance_scale": 1.0}, {"prompt": "c", "guidance_scale": 9.0},
            {"prompt": "d", "num_inference_steps": 7}, {"prompt": "e", "max_sequence_length": 99},
            {"prompt": "f", "skip_layer_guidance_scale": 2.0}]  # fmt: skip
    shards, _ = shard(rows, sampling={"num_inference_steps": 20})
    together = [sorted(item.rows["prompt"].to_pylist()) for item in shards]
    assert sorted(together) == [["a", "c"], ["b"], ["d"], ["e"], ["f"]]


def test_a_bucket_with_fewer_rows_than_a_batch_gets_the_next_power_of_two(shard):
    shards, _ = shard([{"prompt": f"p{i}"} for i in range(5)], model={"batch_size": 16})
    assert [item.batch_size for item in shards] == [8]


def test_the_last_shard_of_a_large_bucket_keeps_its_batch_size(shard):
    shards, _ = shard([{"prompt": f"p{i}"} for i in range(9)], model={"batch_size": 4}, output={"images_per_shard": 8})
    assert [(len(item.rows), item.batch_size) for item in shards] == [(8, 4), (1, 4)]


def test_repeats_get_names_of_their_own_in_manifest_order(shard):
    shards, sharder = shard([{"prompt": "x", "num_images_per_prompt": 2}] * 3)
    rows = pa.concat_tables([item.rows for item in shards])
    first, second, third = (name for name in rows["prompt_id"].to_pylist()[::2])
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert len(set(rows["image_id"].to_pylist())) == len(set(rows["seed"].to_pylist())) == 6
    assert sharder.summary.prompts == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)
@given(cut=st.integers(1, 9), seed=st.integers(0, 5))
def test_how_tables_arrive_changes_nothing(shard, cut, seed):
    """A prompt row whose images are divided between two tables is still one prompt row, repeats included."""
    rows = [{"prompt": f"p{i % 3}", "num_images_per_prompt": 2} for i in range(6)]
    random.Random(seed).shuffle(rows)
    whole, divided = ([item.rows.to_pylist() for item in shard(rows, cut=n)[0]] for n in (None, cut))
    assert whole == divided


def test_skipped_rows_are_handed_out_and_not_kept(shard):
    _, sharder = shard([{"prompt": None}, {"prompt": "a"}], errors={"bad_rows": "skip"})
    (taken,) = sharder.take_skipped()
    assert taken["skip_code"].to_pylist() == ["NULL_PROMPT"]
    assert taken["shard"].to_pylist() == [None]
    assert sharder.take_skipped() == []
    assert (sharder.summary.images, sharder.summary.skipped_images) == (1, 1)


def test_open_shards_are_all_that_is_held(shard):
    before = pa.total_allocated_bytes()
    shards, sharder = shard([{"prompt": f"p{i}"} for i in range(2000)], output={"images_per_shard": 4})
    assert len(shards) == 500
    held = pa.total_allocated_bytes() - before
    del shards
    assert pa.total_allocated_bytes() - before < held / 100
    assert sharder.summary.images == 2000


ROWS = [
    {"prompt": "a"},
    {"prompt": "b", "guidance_scale": 1.0},
    {"prompt": "c", "guidance_scale": 9.0, "height": 96, "width": 96},
    {"prompt": "d", "negative_prompt": "ugly"},
    {"prompt": "e", "negative_prompt_2": "ugly"},
]


@pytest.mark.parametrize("pipeline", [None, SD3])
def test_a_bucket_is_the_one_that_its_label_says(shard, pipeline):
    """Where one call of diffusers renders a batch, rows must agree in more."""
    _, sharder = shard(ROWS, pipeline=pipeline and Pipeline.named(pipeline))
    labels = [*sharder.summary.buckets]
    assert [str(count.key) for count in sharder.summary.buckets.values()] == labels
    assert len(labels) == (4 if pipeline else 3)
    assert all(("negative=" in label) == bool(pipeline) for label in labels)


def test_shards_too_large_to_assemble_are_refused_with_the_number_that_fits(shard, monkeypatch):
    """1 GB is 120 images of 2048² as PNG; here 100 kB are 16 of 48² and 8 of 64²."""
    monkeypatch.setattr(buckets, "SHARD_MOST_BYTES", 100_000)
    rows = [{"prompt": f"{i}", "height": side, "width": side} for side in (48, 64) for i in range(40)]
    model = {"batch_size": 4}
    _, sharder = shard(rows, model=model, output={"images_per_shard": 40})
    (problem,) = sharder.summary.problems
    assert "output.images_per_shard 40: shards of bucket 64x64" in str(problem)
    most = int(re.search(r"Write (\d+) or less", str(problem))[1])
    _, sharder = shard(rows, model=model, output={"images_per_shard": most})
    assert sharder.summary.problems == []
    _, sharder = shard(rows, model=model, output={"images_per_shard": most + 1})
    assert len(sharder.summary.problems) == 1
    few = [{"prompt": "a", "height": 64, "width": 64}]
    assert shard(few, model=model, output={"images_per_shard": 40})[1].summary.problems == []
    assert shard(rows, model=model, output={"images_per_shard": "auto"})[1].summary.problems == []
