"""The watchdog: a renderer that hangs is ended, others take over, and what cannot be rendered ends with exit code 5."""

import subprocess
import sys
from pathlib import Path

import yaml

from batchgen.run.directory import Run, owned_footer
from batchgen.storage.store import Store


def test_a_hanging_renderer_is_ended_and_the_rest_is_rendered(make_job, tmp_path):
    rows = ["fake:hang", *[f"prompt {i}" for i in range(4)]]
    job = make_job(rows, output={"images_per_shard": 1}, model={"batch_size": 1})
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json")))
    script = Path(__file__).parent.parent / "stalling.py"
    command = [sys.executable, script, path, "20"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert (first.returncode, first.stdout.count("ended the renderers, starting others")) == (5, 2), first.stderr
    run = Run.open(Store.open(job.output.path))
    assert len(run.committed()) == 4, "all but the one that hangs"
    assert first.stderr == ""
    second = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert second.returncode == 0, second.stdout + second.stderr
    failures = owned_footer(run.store, 0, run.plans[0].plan).failures.values()
    assert [failure.code for failure in failures] == ["KILLS_WORKER"], "twice alone, twice hung"
