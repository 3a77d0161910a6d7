"""A selection is one expression over a run's own table, and reaches nothing else."""

import os

import numpy as np
import pandas as pd
import pytest

from batchgen.errors import Refused
from batchgen.evaluate import expression
from batchgen.evaluate.selection import near_duplicates, read_selection, select, table_of


@pytest.fixture
def run(scored):
    return scored()


def test_metadata_and_scores_choose(run):
    found = select(run, "score_oracle > 5 and category = 'kind 1' and suspect is null", "v1")
    rows = table_of(run)
    expected = rows[(rows["score_oracle"] > 5) & (rows["category"] == "kind 1")]
    assert 0 < len(expected) < len(rows)
    assert set(found.image_ids) == set(expected["image_id"])
    assert (found.planned, found.chosen, found.images) == (16, len(expected), len(expected))
    assert read_selection(run, "v1") == found


def test_the_same_again_is_the_same_and_another_is_refused(run):
    select(run, "guidance_scale > 2", "v1")
    select(run, "guidance_scale > 2", "v1")
    with pytest.raises(Refused, match=r"another selection v1 already \(8 images where guidance_scale > 2\)"):
        select(run, "guidance_scale < 2", "v1")
    with pytest.raises(Refused, match="has no selection v2; there are v1"):
        read_selection(run, "v2")


@pytest.mark.parametrize(
    "where",
    [
        "image_id in (select content from read_text('{file}'))",
        "exists (select * from read_csv('{file}'))",
        "exists (select * from '{file}')",
        "true) union select * from (select 1",
        "true; COPY images TO '{file}.copy'",
        "true; ATTACH '{file}.db'",
        "true; SET enable_external_access = true",
        "COPY images TO '{file}.copy'",
        "getenv('HOME') is not null",
        "image_id in (select image_id from rows)",  # a variable of ours
        "nosuch > 3",
        "",
        "--",
    ],
)
def test_nothing_but_an_expression_over_this_run(run, tmp_path, where):
    file = tmp_path / "secret.txt"
    file.write_text("secret")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(Refused, match="cannot be used"):
        select(run, where.format(file=file), "v1")
    assert sorted(os.listdir(tmp_path)) == before
    assert run.store.list("selections") == []


def test_a_message_does_not_end_the_terminal(run):
    with pytest.raises(Refused) as refused:
        select(run, "nosuch\x1b[2J > 3", "v1")
    assert "\x1b" not in str(refused.value)


def test_it_ends(run, monkeypatch):
    monkeypatch.setattr(expression, "PATIENCE_S", 0.2)
    slow = "(select count(*) from range(100000000) a, range(1000000) b where a.range % 7 = b.range % 11) > 0"
    with pytest.raises(Refused, match="took more than"):
        select(run, slow, "v1")


def test_near_duplicates_are_those_that_brute_force_finds():
    generator = np.random.default_rng(3)
    values = generator.integers(0, 2**63, 40, dtype=np.uint64)
    near = [value ^ np.uint64(1 << int(bit)) for value, bit in zip(values, generator.integers(0, 63, 40), strict=True)]
    many = pd.Series([f"{int(value):016x}" for value in [*values, *near, *near[:5]]])
    for bits in (0, 1, 2, 4, 30):
        kept = []
        expected = []
        for text in many:
            like = any(bin(int(text, 16) ^ int(other, 16)).count("1") <= bits for other in kept)
            expected.append(like)
            if not like:
                kept.append(text)
        assert near_duplicates(many, bits).tolist() == expected


def test_of_near_duplicates_the_first_stays(run):
    found = select(run, "true", "v1", dedupe=16)
    assert found.chosen == 16
    assert 1 <= found.images < 16


def test_failures_are_never_chosen(make_job):
    from batchgen.plan.graph import make_plan
    from batchgen.plan.preflight import prepare
    from tests.in_process import render_here

    job = make_job(["a", "fake:raise"])
    run = render_here(make_plan(prepare(job))[0])
    assert select(run, "true", "all").images == 1


def test_a_wrong_name_is_told_the_nearest_and_all_others_in_short_lines(run):
    with pytest.raises(Refused) as refused:
        select(run, "guidance > 3", "v1")
    lines = str(refused.value).splitlines()
    assert lines[1].strip().startswith("Nearest: guidance_scale")
    assert lines[2].strip().startswith("The other columns are status")
    assert max(map(len, lines)) < 130
    assert sum("guidance_scale" in line for line in lines) == 1
