"""The commands of `hf` on the page about publishing are there, in the version of huggingface_hub that is tested."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "publishing.md"
LINES = [line for line in PAGE.read_text().splitlines() if line.startswith("hf ")]


@pytest.mark.parametrize("line", LINES)
def test_commands_of_hf_are_there(line):
    words = shlex.split(line)[1:]
    command = list(itertools.takewhile(str.isalpha, words))[: 1 if words[0] == "upload" else 2]
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", *command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f" {' '.join(command)} [OPTIONS]" in done.stdout
    assert [word for word in words if word.startswith("--") and word not in done.stdout] == []


def test_uploads_leave_out_what_says_where_things_lie():
    upload = next(line for line in LINES if "out/run" in line)
    assert [word for word in shlex.split(upload) if word.endswith("/*")] == [".batchgen/*", "exports/*", "selections/*"]
    assert any("--private" in line for line in LINES)
