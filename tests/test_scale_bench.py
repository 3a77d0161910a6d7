"""jobs/bench/scale.py as it is run, in small: what it measures is there, and each of its numbers has its key."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_finalizing_is_measured_with_and_without_a_ledger(tmp_path):
    out = tmp_path / "scale.json"
    out.write_text('{"linear_64": 1.0}')
    command = [sys.executable, ROOT / "jobs/bench/scale.py", "--part", "finalize", "--cold", "4", "--warm", "6"]
    done = subprocess.run([*command, "--out", out], stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    cold, warm = said["finalize_runs"]
    assert (cold["shards"], cold["images"], warm["shards"], warm["images"]) == (4, 16, 6, 150)
    assert said["finalize_cold_ms"] > 0
    assert said["finalize_s"] > 0
    assert json.loads(out.read_text()) == {"linear_64": 1.0} | said, "what another part found is kept"
