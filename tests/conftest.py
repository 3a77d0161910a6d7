"""Fixtures that every test folder can use. The environment is set before Ray or Hugging Face is imported."""

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}
os.environ.pop("RAY_ADDRESS", None)

import io
import json
from importlib.util import find_spec

import hypothesis
import pytest
from rich.console import Console

hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
hypothesis.settings.register_profile("fuzz", max_examples=3000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))  # `make fuzz` sets it

pytest_plugins = ["tests.seaweed"]
if find_spec("pyarrow"):  # a machine that is there to measure a GPU may have nothing but torch and diffusers
    pytest_plugins += ["tests.expanding"]

RAY, S3, ALONE = "tests/render/", "tests/storage/", "tests/test_schedules.py"
COMMANDS = ("tests/render/test_slurm.py", "tests/render/test_stall.py", "tests/render/test_submission.py")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for the marks
def pytest_collection_modifyitems(items):
    """Divide the tests between the workers of pytest-xdist, the longest first, so that none is left alone with one."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(shared_by(item)))
    items.sort(key=lambda item: not item.nodeid.startswith((RAY, S3, ALONE)))


def pytest_collection_finish(session):
    """pytest 9.2 moved what pytest-xdist 3.8 writes groups into: two clusters ran at once, and nobody was told."""
    if getattr(session.config.option, "loadgroup", False) and any("@" not in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest-xdist does not keep tests together with this pytest: see pyproject.toml")


def shared_by(item):
    """What runs with Ray stays together: two clusters are much for two cores. So does the rest of a file.

    Whole commands, which bring a Ray of their own and mostly wait, may run beside it. Schedules share nothing.
    """
    if item.nodeid.startswith(COMMANDS):
        return "commands"
    if item.nodeid.startswith(RAY) or "ray_session" in item.fixturenames:
        return "ray"
    if item.nodeid.startswith(S3) or "seaweed" in item.fixturenames:
        return "s3"
    return item.nodeid if item.nodeid.startswith(ALONE) else item.nodeid.split("::")[0]


@pytest.fixture(scope="session")
def ray_session():
    """The one Ray of the quick suite. Logical CPUs are more than there are, so that two renderers fit."""
    import ray

    from batchgen.cluster.connection import connected, start_here
    from batchgen.job import Cluster

    start_here(num_cpus=4, log_to_driver=False)
    with connected(Cluster()):
        yield
    ray.shutdown()


@pytest.fixture
def console():
    """A console whose text can be read: console.file.getvalue()."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def make_job(tmp_path):
    """make_job(rows, model={...}, ...) writes a JSONL manifest and returns a Job on the fake renderer."""
    from batchgen.job.file import job_from

    count = 0

    def make(rows, out="run", **sections):
        nonlocal count
        count += 1
        manifest = tmp_path / f"prompts-{count}.jsonl"
        manifest.write_text("\n".join(json.dumps({"prompt": row} if isinstance(row, str) else row) for row in rows))
        values = {
            "input": {"path": str(manifest)},
            "model": {"preset": "fake"},
            "sampling": {"height": 32, "width": 32},
            "output": {"path": str(tmp_path / out)},
            "cluster": {"renderers": {"max_size": 1}},  # a second one takes seconds to start
        }
        return job_from({name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}})

    return make
