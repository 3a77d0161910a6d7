"""_SUCCESS: what a finalize proved, of which plans, and the digests of the files that it wrote with it.

Knows its own JSON and its seal; not whether what it says still holds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Self

from batchgen.finalize.metadata import Totals
from batchgen.run.damage import found_damaged
from batchgen.run.directory import Run
from batchgen.run.layout import SUCCESS
from batchgen.run.plans import PlanFile
from batchgen.run.sealed import seal, unseal

SECONDS = "device_seconds"
FIRST = ("images", "failed", "suspect", "split", "device_seconds", "codes")  # what every version has counted
COUNTERS = ("codes", "sizes", "cells", "overflow", "prompts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """plans: their ids, in order. metadata: the parts. card, croissant: their sha256; None where none was recorded.

    counted: the names of what the totals count, which were fewer in earlier versions.
    """

    totals: Totals
    plans: list[str]
    metadata: list[PlanFile]
    card: str | None = None
    croissant: str | None = None
    counted: tuple[str, ...] = tuple(Totals.__dataclass_fields__)

    @classmethod
    def read(cls, run: Run) -> Self | None:
        """What _SUCCESS says; None where it is missing, damaged or not ours."""
        try:
            return cls.from_json(run.store.read(SUCCESS))
        except (FileNotFoundError, ValueError):
            return None

    def to_json(self) -> bytes:
        said: dict[str, Any] = vars(self.totals) | {
            "card": self.card,
            "croissant": self.croissant,
            "planned": self.totals.planned,
            "plans": self.plans,
            "metadata": [asdict(part) for part in self.metadata],
        }
        return seal(json.dumps(said, indent=1, sort_keys=True).encode())

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ValueError where it is not as it was written."""
        with found_damaged():
            said = json.loads(unseal(data, unsealed="codes"))
            fields = Totals.__dataclass_fields__
            counted = tuple(name for name in fields if name in FIRST or name in said)
            totals = Totals(**{name: said[name] for name in counted})
            for name in COUNTERS:
                setattr(totals, name, Counter(getattr(totals, name)))
            parts = [PlanFile(**part) for part in said["metadata"]]
            success = cls(
                totals=totals, plans=said["plans"], metadata=parts, card=said.get("card"),
                croissant=said.get("croissant"), counted=counted,
            )  # fmt: skip
            if said["planned"] != totals.planned or not success._is_sane():
                raise ValueError("it holds values that no run has")
        return success

    def counts_as(self, totals: Totals) -> bool:
        """Whether these are the same counts, as far as there are any here. A sum of floats hangs on its order."""
        same = all(getattr(self.totals, name) == getattr(totals, name) for name in self.counted if name != SECONDS)
        return same and math.isclose(self.totals.device_seconds, totals.device_seconds)

    def _is_sane(self) -> bool:
        totals = self.totals
        counters = [getattr(totals, name) for name in COUNTERS]
        counts = [totals.images, totals.failed, totals.suspect, totals.split, totals.samples, *totals.seeds]
        counts += [count for counter in counters for count in counter.values()]
        counts += [part.rows for part in self.metadata]
        texts = [
            *self.plans,
            *(name for counter in counters for name in counter),
            *(text for part in self.metadata for text in (part.path, part.sha256)),
        ]
        return (
            all(type(count) is int and count >= 0 for count in counts)
            and all(isinstance(text, str) for text in texts)
            and isinstance(self.plans, list)
            and math.isfinite(totals.device_seconds)
            and len(totals.seeds) in (0, 2)
            and all(digest is None or isinstance(digest, str) for digest in (self.card, self.croissant))
        )
