"""How many renderers a job gets where it does not say, by machines as they are found."""

import pytest

from batchgen.cluster.renderers import Room, renderer_of, settled, this_machine
from batchgen.cost.estimate import estimate, lines
from batchgen.cost.footprint import weights_of
from batchgen.job import Cluster, Renderers
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.plan.sharding import BucketCount, Summary

GB = 10**9
ON_CPU, ON_GPU, HALF = Room(1, 0, 2 * GB), Room(1, 1, 2 * GB), Room(0.5, 0.5, 2 * GB)
LAPTOP, NODE = Room(9, 0, 20 * GB), Room(64, 8, 500 * GB)


@pytest.mark.parametrize(
    ("machines", "each", "expected"),
    [
        ([LAPTOP], ON_CPU, 8),
        ([Room(9, 0, 5 * GB)], ON_CPU, 2),
        ([Room(3, 0, 1 * GB)], ON_CPU, 1),
        ([NODE], ON_GPU, 8),
        ([NODE, NODE], HALF, 32),
        ([NODE, LAPTOP], ON_GPU, 8),
        ([LAPTOP], ON_GPU, 1),
        ([Room(4, 8, GB)], ON_GPU, 3),
        ([Room(2, 0, 9 * GB), Room(2, 0, 9 * GB)], Room(0.1, 0, GB / 2), 28),
        ([], ON_GPU, 1),
    ],
)
def test_as_many_as_the_machines_hold_and_all_at_once(machines, each, expected):
    assert settled(Renderers(), machines, each, 1000) == Renderers(min_size=expected, max_size=expected)


@pytest.mark.parametrize(
    ("said", "shards", "expected"),
    [
        ({"max_size": 3}, 1000, (3, 3)),
        ({"max_size": 64}, 1000, (8, 64)),  # an autoscaler brings the others
        ({"min_size": 2}, 1000, (2, 8)),
        ({"min_size": 12}, 1000, (12, 12)),
        ({"min_size": 1, "max_size": 64}, 1000, (1, 64)),
        ({}, 5, (5, 5)),
        ({"min_size": 4, "max_size": 9}, 2, (2, 2)),
    ],
)
def test_what_a_job_says_goes_before_and_no_renderer_is_without_a_shard(said, shards, expected):
    assert settled(Renderers(**said), [NODE], ON_GPU, shards) == Renderers(min_size=expected[0], max_size=expected[1])


def job(**sections):
    return job_from({"input": {"path": "p.jsonl"}, "output": {"path": "out"}, "sampling": {}} | sections)


def test_weights_count_what_a_renderer_holds():
    files = sum(file.stat().st_size for file in DEMO_CHECKPOINT.rglob("*.safetensors"))
    assert weights_of(job(model={"preset": "demo"})) == pytest.approx(2 * files, rel=0.02), "16 bits on disk, 32 here"
    assert weights_of(job(model={"preset": "sd3.5-medium"})) > 14 * GB
    assert weights_of(job(model={"preset": "fake"})) == 0
    two = job(model={"preset": "sd3.5-medium"}, refine={"model": {"preset": "sd3-medium"}})
    assert weights_of(two) > weights_of(job(model={"preset": "sd3.5-medium"})) + 14 * GB


def test_plan_says_how_many(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    summary = Summary(images=100, buckets={"a": BucketCount(batch_size=1, images=100, shards=100, tflop=1.0)})
    fake = job(model={"preset": "fake"})
    here = settled(Renderers(), [this_machine()], renderer_of(Cluster(), 0, 0), 100).max_size
    assert estimate(fake, summary, None).renderers == here
    assert f"cluster.renderers is not set: as many as this machine holds, {here}" in list(
        lines(fake, summary, None, "")
    )
    joined = fake.model_copy(update={"cluster": Cluster(address="127.0.0.1:1")})
    assert any("as many as the cluster holds" in line for line in lines(joined, summary, None, ""))
