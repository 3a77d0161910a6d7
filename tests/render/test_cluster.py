"""cluster.py: what would wait for ever is refused, and a renderer takes what the job says."""

import pytest
import ray

from batchgen.cluster.connection import check_room, connected, gpus_per_renderer
from batchgen.errors import Infrastructure
from batchgen.job import Cluster
from batchgen.job.file import job_from

pytestmark = pytest.mark.usefixtures("ray_session")


def job(preset="fake", **settings):
    sections = {"input": {"path": "x"}, "output": {"path": "y"}, "model": {"preset": preset}, "cluster": settings}
    return job_from(sections)


def test_without_gpus_a_renderer_takes_none():
    assert gpus_per_renderer(Cluster()) == 0.0
    assert gpus_per_renderer(Cluster(num_gpus=0.5)) == 0.5


def test_a_renderer_that_fits_nowhere_is_refused():
    check_room(job())
    with pytest.raises(Infrastructure, match="No node has 1 GPU"):
        check_room(job(num_gpus=1))
    with pytest.raises(Infrastructure, match=r"1 renderers of 3.5 CPU do not fit"):
        check_room(job(num_cpus=3.5))


def test_renderers_that_leave_no_cpu_for_feeding_them_are_refused():
    with pytest.raises(Infrastructure, match="4 renderers of 1 CPU do not fit"):
        check_room(job(renderers={"min_size": 4, "max_size": 4}))


def test_a_joined_cluster_may_still_grow(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert check_room(job(num_gpus=1)) is None
    assert "waiting for CPUs" in check_room(job(renderers={"min_size": 4, "max_size": 4}))


def test_a_gpu_model_is_not_rendered_on_the_cpus_of_a_cluster_by_accident(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(Infrastructure, match="shows no GPU"):
        check_room(job("sd3.5-medium"))
    check_room(job("sd3.5-medium", num_gpus=0))


def test_a_session_that_exists_is_used_and_left_alone():
    before = ray.get_runtime_context().get_job_id()
    with connected(Cluster()):
        assert ray.get_runtime_context().get_job_id() == before
    assert ray.is_initialized()
    assert not ray.data.DataContext.get_current().enable_progress_bars
