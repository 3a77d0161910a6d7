"""`batchgen view` as a command, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(*words: str) -> Iterator[str]:
    """Its URL. Ctrl-C must end it, quietly."""
    command = [sys.executable, "-m", "batchgen", "view", *words, "--port", "0", "--no-browser"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env=os.environ | {"COLUMNS": "300"}, **pipes)
    try:
        url = process.stdout.readline().split("  ")[0]
        assert url.startswith("http://"), process.communicate()
        yield url
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
