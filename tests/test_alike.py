"""hashes.py and alike.py: near-identical pairs are those that brute force finds, and are counted in linear time."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.look import alike, doctor
from batchgen.look.alike import alike_of
from batchgen.look.status import full_status
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.hashes import NEAR, bands, near_pairs, numbers
from tests.in_process import render_here

NONE = np.zeros(1, np.int64)


def crowded(count, seed=0):
    """Hashes of which many are near each other, some equal."""
    draw = np.random.default_rng(seed)
    values = draw.choice(draw.integers(0, 2**64, 30, np.uint64), count)
    for _ in range(4):
        bits = np.uint64(1) << draw.integers(0, 64, count).astype(np.uint64)
        values ^= np.where(draw.random(count) < 0.4, bits, np.uint64(0))
    return values


def brute(values, groups, owners, places):
    near = np.triu(np.bitwise_count(values[:, None] ^ values[None, :]) <= NEAR, 1) & (groups[:, None] == groups)
    found = np.zeros(places, np.int64)
    np.add.at(found, owners[groups[np.nonzero(near)[0]]], 1)
    return found.tolist()


@pytest.mark.parametrize("groups", [1, 3, 200])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_that_brute_force_finds(seed, groups):
    values, of = crowded(700, seed), np.random.default_rng(seed).integers(0, groups, 700)
    owners = np.arange(groups) % 2
    found, complete = near_pairs(values, of, owners, 2)
    assert (found.tolist(), complete) == (brute(values, of, owners, 2), True)
    assert found.sum() > 20


def test_there_are_pairs_at_exactly_so_many_bits():
    one = np.uint64(0x0123456789ABCDEF)
    for bits in (0, NEAR, NEAR + 1):
        for offset in range(64 - bits):
            other = one ^ np.uint64(sum(1 << (offset + at * (63 - offset) // max(bits, 1)) for at in range(bits)))
            many = np.concatenate([np.array([one, other]), crowded(300, 5)])  # so many that bands are compared
            wanted = brute(many, np.zeros(302, int), NONE, 1)
            assert near_pairs(many, np.zeros(302, int), NONE, 1)[0].tolist() == wanted


def test_hashes_are_read_and_divided():
    values = numbers(["00000000000000ff", "8000000000000001"])
    assert values.tolist() == [255, 2**63 + 1]
    parts = bands(values, 5)
    edges = np.linspace(0, 64, 6).astype(int)
    assert [
        sum(int(part[at]) << int(low) for part, low in zip(parts, edges, strict=False)) for at in (0, 1)
    ] == values.tolist()
    assert len(numbers([])) == 0


def test_many_equal_pictures_are_counted_and_not_compared():
    values = np.full(400_000, 7, np.uint64)
    began = time.perf_counter()
    found, complete = near_pairs(values, np.zeros(len(values), np.int64), NONE, 1)
    assert (int(found[0]), complete) == (400_000 * 399_999 // 2, True)
    assert time.perf_counter() - began < 10


def test_where_all_are_alike_it_gives_up_and_says_so():
    values = np.unique(np.random.default_rng(0).integers(0, 2**16, 5000, np.uint64))
    found, complete = near_pairs(values, np.zeros(len(values), np.int64), NONE, 1, most=1_000_000)
    assert not complete
    assert 0 < found[0] <= brute(values, np.zeros(len(values), int), NONE, 1)[0]


def test_three_hundred_thousand_take_seconds():
    values = np.random.default_rng(1).integers(0, 2**64, 300_000, np.uint64)
    values[::1000] ^= np.uint64(1)
    began = time.perf_counter()
    assert near_pairs(values, np.zeros(len(values), np.int64), NONE, 1)[1]
    assert time.perf_counter() - began < 15, "0.6 s on an idle core"


@pytest.fixture
def run(make_job):
    """Two cells; in each, two prompts of two pictures, and one that is flat."""
    rows = ["a", "b", "fake:flat"]
    job = make_job(rows, sampling={"num_images_per_prompt": 2}, sweep={"guidance_scale": [1.0, 4.5]})
    return render_here(make_plan(prepare(job))[0])


def test_pairs_of_a_run_by_cell(run, monkeypatch):
    hashes = {"a": "00000000000000ff", "b": "00000000000000fe"}
    real = alike.Results.tables

    def tables(self, names):
        for table in real(self, names):
            prompts = next(real(self, ["prompt"]))["prompt"].to_pylist()
            column = [hashes.get(prompt, "f" * 16) for prompt in prompts]
            yield table.set_column(table.column_names.index("phash"), "phash", [column])

    monkeypatch.setattr(alike.Results, "tables", tables)
    found = alike_of(run)
    assert [one.cell for one in found] == ["guidance_scale=1.0", "guidance_scale=4.5"]
    for one in found:
        assert (one.images, one.within, one.across, one.complete) == (6, 2, 4, True)
    said = list(alike.lines(found))
    assert said[1].startswith("  guidance_scale=1.0: 2 near-identical pairs within a prompt, 4 across prompts")


def test_flat_pictures_are_counted_apart(run):
    for one in alike_of(run):
        assert (one.images, one.flat, one.within, one.across) == (6, 2, 0, 0)


def test_status_and_doctor_say_it(run, make_job):
    report, status = doctor.examine(run), full_status(run)
    assert report.problems == []
    assert report.alike == status.alike == alike_of(run)
    for command in ("status", "doctor"):
        said = CliRunner().invoke(app, [command, run.store.url]).output
        assert "near-identical: at most 4 of 64 bits of perceptual hashes differ" in said
        assert (
            "guidance_scale=4.5: 0 near-identical pairs within a prompt, 0 across prompts, 2 flat, of 6 pictures"
            in said
        )
        as_json = json.loads(CliRunner().invoke(app, [command, run.store.url, "--json"]).output)
        assert as_json["alike"][1]["flat"] == 2
    run.store.delete("data/shard-000000.parquet")
    run.store.delete("_SUCCESS")
    assert full_status(run).alike is None
    assert doctor.examine(run).alike == []


def test_where_nothing_is_alike_nothing_is_said(make_job):
    run = render_here(make_plan(prepare(make_job(["a", "b"])))[0])
    assert list(alike.lines(alike_of(run))) == []
    assert alike.Alike(cell="x", images=3, flat=0, within=1, across=0, complete=False).line.startswith(
        "at least 1 near"
    )
