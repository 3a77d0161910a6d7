"""What the environment of this process says about Ray, without importing Ray."""

from __future__ import annotations

import os

from batchgen.config import Cluster


def in_ray_job() -> bool:
    """`ray job submit` sets this for the entry point it starts (ray 2.60, dashboard/modules/job)."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def address(cluster: Cluster) -> str | None:
    """The cluster to join; None: start a private one."""
    return cluster.address or os.environ.get("RAY_ADDRESS") or ("auto" if in_ray_job() else None)
