"""The files of infra/, read as the programs read them that they are for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

INFRA = Path(__file__).parent.parent.parent / "infra"
RAYJOBS = ("rayjob.yaml", "rayjob-kueue.yaml")


def manifest(name: str) -> dict[str, Any]:
    """The one document of a file, its anchors replaced."""
    return yaml.safe_load((INFRA / name).read_text())


def pods(rayjob: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The templates of all pods that KubeRay makes of it, by what they are."""
    spec = rayjob["spec"]
    cluster = spec["rayClusterSpec"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"submitter": spec["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"], **workers}


def pinned(package: str) -> str:
    """The version that infra/constraints.txt says."""
    return re.search(rf"^{package}==(\S+)$", (INFRA / "constraints.txt").read_text(), re.MULTILINE)[1]
