"""The watchdog: a renderer that hangs is ended, others take over, and what cannot be rendered ends with exit code 5."""

import subprocess
import sys
from pathlib import Path

import yaml

from batchgen.run import Run
from batchgen.storage import Store


def test_a_hanging_renderer_is_ended_and_the_rest_is_rendered(make_job, tmp_path):
    rows = ["fake:hang", *[f"prompt {i}" for i in range(4)]]
    job = make_job(rows, output={"images_per_shard": 1}, model={"batch_size": 1})
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    script = Path(__file__).with_name("stalling.py")
    command = [sys.executable, script, path, "8"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (first.returncode, first.stdout.count("ending the renderers and starting others")) == (5, 2), first.stderr
    run = Run.open(Store.open(job.output.path))
    assert len(run.committed()) == 4, "all but the one that hangs"
    assert first.stderr == ""
