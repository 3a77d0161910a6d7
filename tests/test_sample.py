"""sample.py: what a preview shows is spread over buckets, cells and prompt lengths, and is of the whole plan."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.plan import graph
from batchgen.plan.preflight import prepare
from batchgen.plan.preview import depth, in_turn

SIZES = [(32, 32), (32, 48), (48, 32)]


@pytest.fixture
def planned(make_job):
    """planned(rows, limit, **sections) → image rows of the plan, in order; limit None plans everything."""

    def make(rows, limit=None, **sections):
        run, summary = graph.make_plan(prepare(make_job(rows, out=f"run-{random.random()}", **sections)), limit)
        shards = run.shards(run.plans[0])
        assert summary.images == run.plans[0].images == sum(shard.rows for shard in shards)
        tables = [run.rows(run.plans[0], shard) for shard in shards]
        for shard, table in zip(shards, tables, strict=True):
            assert len(table) == shard.rows
            assert limit is None or len(table) <= shard.batch_size
            assert set(table["shard"].to_pylist()) == {shard.number}
        return [row for table in tables for row in table.to_pylist()]

    return make


def mixed(count):
    return [
        {"prompt": f"prompt {i} " + "and " * (i % 17), "height": SIZES[i % 3][0], "width": SIZES[i % 3][1]}
        for i in range(count)
    ]


def test_a_picked_row_is_the_row_of_the_whole_plan(planned):
    """All but the shard: name, seed, and the batch size, of a bucket with fewer rows than a batch too."""
    rows = [*mixed(60), *({"prompt": f"few {i}", "height": 64, "width": 64} for i in range(2))]
    sections = {"sweep": {"guidance_scale": [1.0, 3.0, 6.0]}, "model": {"batch_size": 8}}
    whole = {row["image_id"]: row for row in planned(rows, **sections)}
    picked = planned(rows, 20, **sections)
    assert len(picked) == len({row["image_id"] for row in picked}) == 20
    others = {"shard": None, "source_file": None}  # its table is another file here
    for row in picked:
        assert row | others == whole[row["image_id"]] | others
    assert {row["batch_size"] for row in picked} == {2, 4, 8}


def test_every_bucket_and_cell_is_shown(planned):
    rows = mixed(90)
    picked = planned(rows, 12, sweep={"guidance_scale": [1.0, 3.0, 6.0]})
    shown = Counter((row["height"], row["width"], row["cell"]) for row in picked)
    assert (len(shown), set(shown.values())) == (9, {1, 2})
    few = planned(rows, 3, sweep={"guidance_scale": [1.0, 3.0, 6.0]})
    assert len({(row["height"], row["width"], row["guidance_scale"] > 1) for row in few}) == 3
    assert len({row["cell"] for row in few}) > 1


def test_the_longest_prompt_is_shown_once_and_others_beside_it(planned):
    rows = [{"prompt": f"prompt {i}"} for i in range(200)] + [{"prompt": "a very " * 9 + "long one"}]
    picked = planned(rows, 6, sampling={"num_images_per_prompt": 4})
    longest = [row for row in picked if "long one" in row["prompt"]]
    assert [row["sample_index"] for row in longest] == [0]
    assert len({row["prompt"] for row in picked}) >= 5


def test_cells_show_the_same_prompts(planned):
    picked = planned([{"prompt": f"prompt {i}"} for i in range(50)], 8, sweep={"guidance_scale": [3.0, 6.0]})
    prompts = [{row["prompt"] for row in picked if row["cell"] == cell} for cell in {row["cell"] for row in picked}]
    assert len(prompts) == 2
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 4


def test_what_a_small_bucket_cannot_give_a_large_one_does(planned):
    rows = [{"prompt": f"p{i}"} for i in range(40)] + [{"prompt": "alone", "height": 64, "width": 64}]
    picked = planned(rows, 10)
    assert Counter(row["height"] for row in picked) == {32: 9, 64: 1}
    assert len(planned(rows, 1000)) == 41, "more than there are is all of them"


def test_the_order_of_the_manifest_changes_nothing(planned):
    rows = mixed(300)
    picked = planned(rows, 15)
    random.Random(2).shuffle(rows)
    assert {row["image_id"] for row in planned(rows, 15)} == {row["image_id"] for row in picked}


def test_rows_that_are_skipped_are_not_part_of_it(planned):
    assert len(planned([{"prompt": None}, *mixed(9)], 5, errors={"bad_rows": "skip"})) == 5


def test_memory_is_that_of_the_sample(make_job):
    prepared = prepare(make_job(mixed(3000)))
    sample = graph.Sample(graph.sharder_for(prepared, None), 10)
    for source, table in graph.expanded(prepared):
        assert list(sample.add(source, table)) == []
    strata = Counter((row["height"][0].as_py(), row["width"][0].as_py()) for row in sample.held)
    assert set(strata.values()) == {4 + 4}  # some of any, and some of the longest
    assert all(row.nbytes < 2000 for row in sample.held)


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60))
def test_depth_is_just_enough(counts, limit):
    enough = depth(counts, limit)
    assert sum(min(count, enough) for count in counts) >= min(limit, sum(counts))
    assert enough == limit or sum(min(count, enough - 1) for count in counts) < limit


def test_the_first_strata_are_of_different_buckets_and_cells():
    images = {(bucket, cell): 10 * bucket.count("x") for bucket in ("x", "xx", "xxx") for cell in "abc"}
    order = in_turn(images)
    assert [bucket for bucket, _ in order[:3]] == ["xxx", "xx", "x"]
    assert {cell for _, cell in order[:3]} == {"a", "b", "c"}
    assert sorted(order) == sorted(images)
