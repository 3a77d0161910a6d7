"""jobs/bench/export.py as it is run, in small: its plain loop writes what an export does, and its keys are there."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_an_export_is_measured_beside_a_plain_loop():
    command = [sys.executable, ROOT / "jobs/bench/export.py", "--images", "300", "--rounds", "1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[1].startswith("plain: "), "the ceiling comes first"
    said = json.loads(lines[-1])
    assert said["images"] == 300
    assert said["export_share"] > 0
    assert said["export_share_bare"] > 0
