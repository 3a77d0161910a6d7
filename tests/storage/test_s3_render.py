"""A whole run on S3, by the real command: manifest, plan, data and metadata, resumed and proven there."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq

from batchgen import doctor
from batchgen.run import Run, data_path
from batchgen.status import status
from batchgen.storage import Store


def test_a_run_on_s3_is_planned_rendered_resumed_and_proven(s3_url, tmp_path):
    rows = [{"prompt": f"prompt {i}", "num_images_per_prompt": 2} for i in range(6)]
    Store.open(s3_url).create("in/prompts.jsonl", "\n".join(map(json.dumps, rows)).encode())
    job = tmp_path / "job.yaml"
    job.write_text(
        f"input: {{path: '{s3_url}/in/*.jsonl'}}\nmodel: {{preset: fake}}\n"
        f"output: {{path: '{s3_url}/run', images_per_shard: 4}}\n"
    )
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 planned = 12 images + 0 failed" in done.stdout
    run = Run.open(Store.open(f"{s3_url}/run"))
    assert doctor.examine(run).problems == []
    assert status(run).complete
    with run.store.open_file(data_path(0)) as opened:
        assert len(pq.read_table(opened)) == 4
    run.store.delete(data_path(1))
    assert any("is missing" in problem for problem in doctor.examine(run).problems)
    again = subprocess.run([*command, "--set", "model.dtype=float16"], capture_output=True, text=True, timeout=200)
    assert (again.returncode, "model.dtype: there" in again.stderr) == (4, True)
