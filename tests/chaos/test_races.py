"""Extending and retrying while another command renders the same run: whoever ends last leaves sound books."""

import json
import subprocess
import sys

from batchgen.look import doctor
from batchgen.run.directory import Run
from batchgen.storage.store import Store
from tests.job_files import job_file


def test_extend_and_retry_race_a_render(tmp_path):
    there = tmp_path / "there"
    rows = [{"prompt": f"fake:slow=0.1 {i}" + (f" fake:until={there}" if i % 20 == 0 else "")} for i in range(200)]
    sections = {"output": {"images_per_shard": 4}, "errors": {"max_failed_fraction": 1.0}, "cluster": {"num_cpus": 1}}
    small = job_file(tmp_path, rows[:100], **sections)
    command = [sys.executable, "-m", "batchgen", "render", small]
    assert subprocess.run(command, timeout=400).returncode == 0
    there.write_text("")
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    racing = [subprocess.Popen([*command, *options]) for options in (["--extend"], ["--extend", "--retry-failed"])]
    assert {one.wait(timeout=600) for one in racing} <= {0, 4, 5}
    assert subprocess.run([*command, "--extend", "--retry-failed"], timeout=400).returncode == 0
    report = doctor.examine(Run.open(Store.open(str(tmp_path / "run"))))
    assert (report.problems, report.images, report.failed) == ([], 200, 0)
