"""What was measured so far: in a file that is whole after every section, and in few lines on the screen.

Knows nothing of what is measured; a section is a name, a time that it takes about, and something to call.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from on_gpu.stopwatch import Stopwatch

LINE = 160  # characters of a section on the screen


@dataclass(frozen=True)
class Section:
    """seconds: that it takes about at full size on an H100. part: the key below its name, where it has several."""

    name: str
    seconds: float
    measure: Callable[[], dict[str, Any]]
    part: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} {self.part}".strip()


@dataclass
class Result:
    path: Path
    watch: Stopwatch
    values: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def everything(self) -> dict[str, Any]:
        return self.values | {"failed": self.failed, "left_out": self.left_out}

    def take(self, section: Section, needs: float) -> None:
        """Its answer may be {'left_out': why}, or an error: then the run goes on without. needs: seconds."""
        if self.watch.left <= needs:
            self.left_out[section.title] = f"{self.watch.left:.0f} s left, and it takes about {needs:.0f}"
            return
        began = self.watch.elapsed
        try:
            found = section.measure()
        except Exception as error:  # noqa: BLE001 - one result less is better than none
            traceback.print_exc(limit=-2)
            self.failed[section.title] = f"{type(error).__name__}: {str(error).strip()[:300]}"
            found = {}
        self._keep(section, found)
        if self.watch.device.type == "cuda":
            torch.cuda.empty_cache()  # here, with the error gone that held what the failed section had
        verdict = self.failed.get(section.title) or self.left_out.get(section.title) or json.dumps(found)
        took = self.watch.elapsed - began
        print(f"{self.watch.elapsed:4.0f} s  {section.title} ({took:.1f} s): {verdict[:LINE]}", flush=True)
        self.write()

    def _keep(self, section: Section, found: dict[str, Any]) -> None:
        if "left_out" in found:
            self.left_out[section.title] = found["left_out"]
        elif found and section.part:
            self.values.setdefault(section.name, {})[section.part] = found
        elif found:
            self.values[section.name] = found

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        half.write_text(json.dumps(self.everything, indent=1) + "\n")
        half.replace(self.path)
