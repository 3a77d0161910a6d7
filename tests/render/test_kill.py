"""The real command, killed: what was committed stays, the same command completes it, the pixels are a quiet run's."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from batchgen import session
from batchgen.job import Renderers
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.run.directory import Run
from batchgen.storage.store import Store


def command(job, tmp_path, *options):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    return [sys.executable, "-m", "batchgen", "render", str(path), *options]


def digests(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("data/*.parquet")}


def pixels(out):
    table = pq.read_table(out / "data")
    return dict(zip(table["image_id"].to_pylist(), table["pixel_sha256"].to_pylist(), strict=True))


def start_and_wait_for(count, job, tmp_path):
    """The driver, once `count` shards are committed."""
    driver = subprocess.Popen(command(job, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "run" / "data").glob("*.parquet"))) < count:
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < deadline, "no shard in two minutes"
        time.sleep(0.1)
    return driver


@pytest.fixture
def slow_job(make_job):
    rows = [f"fake:slow=0.25 prompt {i}" for i in range(32)]
    return make_job(rows, output={"images_per_shard": 4}, cluster={"num_cpus": 1})


def test_an_interrupted_and_then_killed_driver_is_resumed(slow_job, tmp_path, ray_session, console):
    interrupt(slow_job, tmp_path, signal.SIGTERM, 143)
    done = len(digests(tmp_path / "run"))
    driver = start_and_wait_for(done + 1, slow_job, tmp_path)
    meanwhile = status_of(Run.open(Store.open(str(tmp_path / "run"))))  # as any machine that sees the files may ask
    assert (meanwhile.planned, meanwhile.complete, meanwhile.images >= 4 * done + 4) == (32, False, True)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    out = tmp_path / "run"
    time.sleep(1)  # a shard that was being committed at that moment may still arrive
    before = digests(out)
    assert done < len(before) < 8
    again = subprocess.run(command(slow_job, tmp_path), capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stdout + again.stderr
    after = digests(out)
    assert len(after) == 8
    assert {name: after[name] for name in before} == before, "what was committed is never rendered again"
    assert doctor.examine(Run.open(Store.open(str(out)))).problems == []
    two = slow_job.cluster.model_copy(update={"renderers": Renderers(min_size=2, max_size=2)})
    elsewhere = slow_job.output.model_copy(update={"path": str(tmp_path / "quiet")})
    session.render(slow_job.model_copy(update={"cluster": two, "output": elsewhere}), console)
    assert pixels(out) == pixels(tmp_path / "quiet")


def interrupt(slow_job, tmp_path, number, code):
    """A signal ends the driver and its cluster. tests/chaos/test_interrupt.py has Ctrl-C."""
    driver = start_and_wait_for(1, slow_job, tmp_path)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in children)
    os.kill(driver.pid, number)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == code, output
    assert "Run the same command again to continue" in output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
