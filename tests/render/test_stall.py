"""The watchdog: a renderer that hangs is ended, others take over, and what cannot be rendered ends with exit code 5."""

import subprocess
import sys
from pathlib import Path

import yaml

from batchgen.run import Run
from batchgen.storage import Store


def test_a_hanging_renderer_is_ended_and_the_rest_is_rendered(make_job, tmp_path):
    rows = ["fake:hang", *[f"prompt {i}" for i in range(8)]]
    job = make_job(rows, output={"images_per_shard": 1}, model={"batch_size": 1})
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    script = Path(__file__).with_name("stalling.py")
    done = subprocess.run([sys.executable, script, path, "12"], capture_output=True, text=True, timeout=200)
    assert "ending the renderers and starting others" in done.stdout
    run = Run.open(Store.open(job.output.path))
    assert len(run.committed()) >= 8
    assert done.returncode in (0, 5), done.stdout + done.stderr
