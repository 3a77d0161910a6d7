"""Ctrl-C; tests/render/test_kill.py has SIGTERM."""

import signal

from tests.render.test_kill import hanging_job, interrupt

__all__ = ["hanging_job"]  # a fixture


def test_ctrl_c_ends_the_cluster_too(hanging_job, tmp_path):
    interrupt(hanging_job, tmp_path, signal.SIGINT, 130)
