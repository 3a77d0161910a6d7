"""The real command, killed: what was committed stays, the same job completes it, the pixels are a quiet run's."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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

IN_ORDER = Path(__file__).parent.parent / "in_order.py"


def command(job, tmp_path, *options):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    return [sys.executable, IN_ORDER, "render", str(path), *options]


def digests(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("data/*.parquet")}


def pixels(out):
    table = pq.read_table(out / "data")
    return dict(zip(table["image_id"].to_pylist(), table["pixel_sha256"].to_pylist(), strict=True))


def start_until_it_hangs(times, job, tmp_path):
    """The driver, once its renderer hangs in a shard for the `times`-th time in this run and has committed others."""
    before = len(digests(tmp_path / "run"))
    driver = subprocess.Popen(command(job, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 180
    while len(list(tmp_path.glob("hung-*"))) < times or len(digests(tmp_path / "run")) == before:
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < deadline, "it does not hang"
        time.sleep(0.1)
    return driver


@pytest.fixture
def hanging_job(make_job, tmp_path):
    """Twelve shards; each time, the renderer hangs in the middle of what is left. The order is that of render/graph."""
    rows = [f"prompt {i}" for i in range(48)]
    rows[4 * 7] += f" fake:hang-once={tmp_path}/hung-first"
    rows[4 * 1] += f" fake:hang-once={tmp_path}/hung-second"
    return make_job(rows, output={"images_per_shard": 4}, model={"batch_size": 4}, cluster={"num_cpus": 1})


def test_an_interrupted_and_then_killed_driver_is_resumed(hanging_job, tmp_path, ray_session, console):
    out = tmp_path / "run"
    interrupt(hanging_job, tmp_path, signal.SIGTERM, 143)
    first = digests(out)
    driver = start_until_it_hangs(2, hanging_job, tmp_path)
    meanwhile = status_of(Run.open(Store.open(str(out))))  # as any machine that sees the files may ask
    assert (meanwhile.planned, meanwhile.complete, meanwhile.images > 4 * len(first)) == (48, False, True)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    time.sleep(1)  # a shard that was being committed at that moment may still arrive
    before = digests(out)
    assert 0 < len(first) < len(before) < 12
    assert before.items() >= first.items()
    assert session.render(hanging_job, console).totals.images == 48
    after = digests(out)
    assert len(after) == 12
    assert after.items() >= before.items(), "what was committed is never rendered again"
    assert doctor.examine(Run.open(Store.open(str(out)))).problems == []
    two = hanging_job.cluster.model_copy(update={"renderers": Renderers(min_size=2, max_size=2)})
    elsewhere = hanging_job.output.model_copy(update={"path": str(tmp_path / "quiet")})
    session.render(hanging_job.model_copy(update={"cluster": two, "output": elsewhere}), console)
    assert pixels(out) == pixels(tmp_path / "quiet")


def interrupt(job, tmp_path, number, code):
    """A signal ends the driver and its cluster. tests/chaos/test_interrupt.py has Ctrl-C."""
    driver = start_until_it_hangs(1, job, tmp_path)
    children = psutil.Process(driver.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in children)
    os.kill(driver.pid, number)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == code, output
    assert "Run the same command again to continue" in output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(children, timeout=40)
    assert alive == []
