"""Minutes of killing: two drivers at once, SIGKILL to drivers and renderers at random, the same command again.

`make chaos` runs it; tests/render/test_kill.py is its short version in the quick suite.
"""

import hashlib
import random
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from batchgen.look import doctor
from batchgen.run.directory import Run
from batchgen.storage.store import Store

ROUNDS = 8
SHARDS = 30


def digests(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("data/*.parquet")}


def victims(drivers):
    """Drivers and the processes of their renderers."""
    for driver in drivers:
        if driver.poll() is None:
            yield driver.pid
            for child in psutil.Process(driver.pid).children(recursive=True):
                if "MapWorker" in " ".join(child.cmdline()) or "ray::" in child.name():
                    yield child.pid


def kill_some(chosen, drivers, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(driver.poll() is None for driver in drivers):
        time.sleep(chosen.uniform(1, 4))
        try:
            found = list(victims(drivers))
            if found:
                psutil.Process(chosen.choice(found)).send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_kills_loses_and_changes_nothing(make_job, tmp_path, seed):
    chosen = random.Random(seed)
    rows = [f"fake:slow=0.1 prompt {i}" for i in range(4 * SHARDS)]
    job = make_job(rows, output={"images_per_shard": 4}, cluster={"renderers": {"min_size": 1, "max_size": 2}})
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    command = [sys.executable, "-m", "batchgen", "render", str(path)]
    out, seen = tmp_path / "run", {}
    for _ in range(ROUNDS):
        drivers = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
        kill_some(chosen, drivers, chosen.uniform(15, 30))
        for driver in drivers:
            driver.kill()
            driver.wait()
        now = digests(out)
        assert seen.items() <= now.items(), "a committed file changed or vanished"
        seen = now
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen.items() <= digests(out).items()
    report = doctor.examine(Run.open(Store.open(str(out))))
    assert (report.problems, report.images, report.failed) == ([], len(rows), 0)
    assert len(set(pq.read_table(out / "data")["image_id"].to_pylist())) == len(rows)
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "Everything is rendered already" in again.stdout
