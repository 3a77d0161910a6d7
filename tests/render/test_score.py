"""Scoring on Ray: workers give the run the same scores as this process does."""

import pytest

from batchgen.errors import Refused
from batchgen.evaluate.graph import score
from batchgen.evaluate.scores import read_scores
from batchgen.job import Cluster
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here

OWN = """
import os
from batchgen.errors import Refused

class Length:
    def score(self, images, rows):
        return [{"score": len(row["prompt"]) + image.width, "process": os.getpid()} for image, row in zip(images, rows)]

class Broken:
    def score(self, images, rows):
        raise Refused("this scorer will not")
"""


def test_workers_score_what_this_process_does(make_job, tmp_path, ray_session):
    job = make_job([{"prompt": "x" * i} for i in range(1, 13)], output={"images_per_shard": 2})
    run = render_here(make_plan(prepare(job))[0])
    file = tmp_path / "own.py"
    file.write_text(OWN)
    score(run, [f"{file}:Length"], name="here")
    two = Cluster.model_validate({"renderers": {"min_size": 2, "max_size": 2}, "num_cpus": 0.5})
    told = []
    (done,) = score(run, [f"{file}:Length"], name="ray", cluster=two, notify=told.append)
    here, ray = (read_scores(run.store)[name].table.sort_values("image_id") for name in ("here", "ray"))
    assert ray[["image_id", "score"]].values.tolist() == here[["image_id", "score"]].values.tolist()
    assert not set(ray["detail"]) & set(here["detail"])  # other processes
    assert (done.images, done.errors, sorted(one.shard for one in told)) == (12, 0, sorted(run.committed()))
    with pytest.raises(Refused, match="this scorer will not"):
        score(run, [f"{file}:Broken"], cluster=two)
