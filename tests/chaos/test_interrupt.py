"""Ctrl-C; tests/render/test_kill.py has SIGTERM."""

import signal

from tests.render.test_kill import interrupt, slow_job

__all__ = ["slow_job"]  # a fixture


def test_ctrl_c_ends_the_cluster_too(slow_job, tmp_path):
    interrupt(slow_job, tmp_path, signal.SIGINT, 130)
