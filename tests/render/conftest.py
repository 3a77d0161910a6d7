"""The demonstration, rendered once for all tests of this folder by two actors of the shared session."""

import io

import pytest
from rich.console import Console


@pytest.fixture(scope="session")
def demo(tmp_path_factory, ray_session):
    from batchgen import session
    from batchgen.demo import demo_job
    from batchgen.job import Renderers

    job = demo_job(str(tmp_path_factory.mktemp("demo") / "run"))
    two = job.cluster.model_copy(update={"renderers": Renderers(min_size=2, max_size=2)})
    return session.render(job.model_copy(update={"cluster": two}), Console(file=io.StringIO()))


@pytest.fixture
def demo_out(demo):
    return demo.run.store.url
