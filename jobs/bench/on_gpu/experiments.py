"""Starts experiments, each in a process of its own, and reads what it says.

The batch that they render lies in a file, so that no process encodes texts or has T5 in memory. Knows what an
experiment is called and needs, not what it does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from on_gpu.model_in_hand import Model

SCRIPT = Path(__file__).with_name("experiment.py")
GRACE_S = 30.0  # beyond the time that is left


@dataclass
class Laboratory:
    """folder: for batches, and for compiled kernels, which experiments share unless one asks for `fresh` ones."""

    model: Model
    side: int
    folder: Path
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, name: str, kind: str = "denoise", fresh: bool = False, **order: Any) -> dict[str, Any]:
        """What the experiment found. Raises RuntimeError with its last words where it failed."""
        cache = self.folder / (
            f"kernels-{name.replace(' ', '-')}" if fresh else "kernels"
        )  # C++ is called without quotes
        said = {
            "kind": kind,
            "size": self.model.size,
            "device": str(self.model.watch.device),
            "side": self.side,
            **order,
        }
        if kind != "vae":
            said["batch"] = str(self._batch())
        command = [sys.executable, str(SCRIPT), json.dumps(said)]
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
        patience = self.model.watch.left + GRACE_S
        torch.cuda.empty_cache()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience)
        if done.returncode:
            raise RuntimeError(" ".join(done.stderr.strip().splitlines()[-4:])[-400:])
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        self.seen[name] = found
        return found

    def like(self, name: str, other: str, **order: Any) -> dict[str, Any]:
        """The same order as `other` once more, with nothing that was compiled before: are its latents the same?"""
        found = self.run(name, fresh=True, **order)
        if (before := self.seen.get(other)) is not None and "sha256" in before:
            found["same_latents"] = before["sha256"] == found.get("sha256")
        return found

    def flash_3(self, **order: Any) -> dict[str, Any]:
        if importlib.util.find_spec("flash_attn_interface") is None:
            return {"left_out": "flash_attn_interface (FlashAttention 3) is not installed"}
        return self.run("flash_3", settings={"kernels": "compiled", "attention": "flash_3"}, **order)

    def _batch(self) -> Path:
        path = self.folder / "batch.pt"
        if not path.exists():
            self.model.reference(self.side).save(path)
        return path
