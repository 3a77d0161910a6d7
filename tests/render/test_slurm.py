"""infra/slurm/render.sbatch, run: two Ray nodes, notice in the middle, a requeue, and the rest in a second turn.

Stand-ins are `srun`, which runs a step here, and `scontrol`, which knows two hosts and notes what is put back.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.job_files import job_file

ROOT = Path(__file__).parent.parent.parent
LIMIT = 240
ROWS = 16
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/bin/bash
case "$1 $2" in
    "show hostnames") printf 'node-1\\nnode-2\\n' ;;
    "show job") echo "JobId=$3 JobState=RUNNING" ;;
    requeue*) echo "$2" >> "$REQUEUED" ;;
esac
"""


@pytest.fixture
def slurm(tmp_path):
    """What sbatch gives a script: variables, and programs on PATH."""
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    job = free_job()
    given = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "BATCHGEN_VENV": sys.prefix,
        "REQUEUED": str(tmp_path / "requeued"),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"} | given
    yield environment
    assert not Path(f"/tmp/ray-{job}").exists()
    assert not list(tmp_path.glob(".batchgen-*")), "the token lies there"


def free_job():
    """The number of a job whose ports are free."""
    while True:
        job = random.randrange(5000)
        try:
            for port in (20000 + job * 2, 20001 + job * 2):
                socket.create_server(("", port)).close()
            return job
        except OSError:
            continue


def turn(slurm, job, log, interrupt=lambda: False):
    """One turn of the script, with Slurm's notice once interrupt() says so; its exit code, and what it said."""
    with log.open("w") as out:
        script = subprocess.Popen(
            [ROOT / "infra/slurm/render.sbatch", job], env=slurm, stdout=out, stderr=subprocess.STDOUT
        )
        ours = psutil.Process(script.pid)
        try:
            deadline, told = time.monotonic() + LIMIT, False
            while script.poll() is None:
                assert time.monotonic() < deadline, log.read_text()
                if not told and interrupt():
                    script.send_signal(signal.SIGUSR1)
                    told = True
                time.sleep(0.1)
            return script.returncode, log.read_text()
        finally:
            for one in ours.children(recursive=True) if script.poll() is None else []:
                one.kill()
            script.kill()
            script.wait(timeout=20)


def test_a_job_of_two_turns(slurm, tmp_path):
    rows = [{"prompt": f"picture {number} fake:slow=1"} for number in range(ROWS)]
    output, cluster = {"images_per_shard": 1}, {"renderers": {"min_size": 2, "max_size": 2}}
    job, data, requeued = (
        job_file(tmp_path, rows, output=output, cluster=cluster),
        tmp_path / "run/data",
        tmp_path / "requeued",
    )

    code, said = turn(slurm, job, tmp_path / "first.log", lambda: len(list(data.glob("*.parquet"))) > 1)
    assert code == 143, said
    assert "2 of 2 nodes are there" in said
    assert requeued.read_text() == f"{slurm['SLURM_JOB_ID']}\n"
    stored = {path: path.stat().st_mtime_ns for path in data.glob("*.parquet")}
    assert 1 < len(stored) < ROWS

    code, said = turn({**slurm, "SLURM_RESTART_COUNT": "1"}, job, tmp_path / "second.log")
    assert code == 0, said
    assert requeued.read_text() == f"{slurm['SLURM_JOB_ID']}\n", "it was put back once"
    assert pq.read_table(tmp_path / "run/metadata")["status"].to_pylist() == ["ok"] * ROWS
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
