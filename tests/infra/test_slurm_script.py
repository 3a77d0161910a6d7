"""infra/slurm/render.sbatch: its syntax, and after which ends it stands in the queue again. tests/render runs it."""

import os
import shutil
import subprocess

import pytest

from tests.infra.manifests import INFRA

SCRIPT = INFRA / "slurm" / "render.sbatch"


def bash(code, folder, state="RUNNING", **environment):
    """Runs code after the script's functions were read, with a scontrol that says that the job is in this state."""
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "JobId=$3 JobState={state} Reason=None"\n')
    (folder / "scontrol").chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": "/", "SLURM_JOB_ID": "7", **environment}
    command = ["bash", "-c", f'source "{SCRIPT}"; {code}']
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10)


@pytest.mark.parametrize("script", ["slurm/render.sbatch", "entrypoint.sh"])
def test_its_syntax(script):
    subprocess.run(["bash", "-n", INFRA / script], check=True, timeout=10)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, "--shell=bash", INFRA / script], check=True, timeout=30)


@pytest.mark.parametrize(
    ("code", "notice", "again"),
    [
        *[(5, "no", 0), (5, "yes", 0), (143, "yes", 0)],  # it does
        *[(0, "no", 1), (0, "yes", 1), (2, "no", 1), (3, "yes", 1), (4, "no", 1), (130, "yes", 1), (143, "no", 1)],
    ],
)
def test_it_stands_in_the_queue_again_where_the_same_command_would_go_on(tmp_path, code, notice, again):
    assert bash(f"again {code} {notice}", tmp_path).returncode == again


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED"])
def test_what_was_cancelled_does_not_come_back(tmp_path, state):
    assert bash("again 5 no", tmp_path, state).returncode == 1


def test_not_for_ever(tmp_path):
    assert bash("again 5 no", tmp_path, SLURM_RESTART_COUNT="19").returncode == 0
    done = bash("again 5 no", tmp_path, SLURM_RESTART_COUNT="20")
    assert (done.returncode, "not once more" in done.stderr) == (1, True)


def test_slurm_is_asked_for_what_the_script_relies_on():
    lines = SCRIPT.read_text().splitlines()
    first_command = next(number for number, line in enumerate(lines) if not line.startswith("#") and line)
    asked = [line.removeprefix("#SBATCH --") for line in lines[:first_command] if line.startswith("#SBATCH ")]
    assert {"requeue", "signal=B:USR1@120", "open-mode=append", "ntasks-per-node=1"} <= set(asked)
    assert not any(line.startswith("#SBATCH") for line in lines[first_command:]), "Slurm does not read these"
