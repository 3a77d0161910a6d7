"""The watchdog: a renderer that hangs is ended, and others take over. tests/chaos/test_stall.py goes further."""

import subprocess
import sys
from pathlib import Path

import yaml

from batchgen.look import doctor
from batchgen.run.directory import Run
from batchgen.storage.store import Store

STALLING = Path(__file__).parent.parent / "stalling.py"


def test_a_hanging_renderer_is_ended_and_all_is_rendered(make_job, tmp_path):
    """It hangs in the last shard but one, so that a slow start is no stall."""
    rows = [f"fake:hang-once={tmp_path}/hung", *[f"prompt {i}" for i in range(4)]]
    job = make_job(rows, output={"images_per_shard": 1}, model={"batch_size": 1})
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    done = subprocess.run([sys.executable, STALLING, path, "120"], capture_output=True, text=True, timeout=230)
    assert (done.returncode, done.stdout.count("ended the renderers, starting others")) == (0, 1), done.stderr
    assert done.stderr == ""
    report = doctor.examine(Run.open(Store.open(job.output.path)))
    assert (report.problems, report.images, report.failed) == ([], 5, 0)
