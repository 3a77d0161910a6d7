"""Which cluster this process should join, by the job file and the environment. Neither imports nor starts Ray."""

from __future__ import annotations

import os
import socket

from batchgen.errors import Infrastructure
from batchgen.job import Cluster


def in_ray_job() -> bool:
    """`ray job submit` sets this for the entry point it starts (ray 2.60, dashboard/modules/job)."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def check_address(cluster: Cluster) -> None:
    """Raises Infrastructure where nobody listens at the cluster's host:port; Ray itself would wait for minutes."""
    host, colon, port = (address(cluster) or "").rpartition(":")
    if not colon or "/" in host or not port.isdecimal():
        return  # auto, ray://..., or no address at all
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise Infrastructure(
            f"No Ray cluster answers at {host}:{port} ({error}). Start it, correct cluster.address or RAY_ADDRESS, or "
            "unset both to use a private one."
        ) from error


def address(cluster: Cluster) -> str | None:
    """The cluster to join. None: there is none, start a private one."""
    return cluster.address or os.environ.get("RAY_ADDRESS") or ("auto" if in_ray_job() else None)
