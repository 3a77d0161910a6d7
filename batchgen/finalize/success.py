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


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """plans: their ids, in order. metadata: the parts. card: sha256 of the card; None where none was recorded."""

    totals: Totals
    plans: list[str]
    metadata: list[PlanFile]
    card: str | None = None

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
            totals = Totals(**{name: said[name] for name in Totals.__dataclass_fields__})
            totals.codes = Counter(totals.codes)
            parts = [PlanFile(**part) for part in said["metadata"]]
            success = cls(totals=totals, plans=said["plans"], metadata=parts, card=said.get("card"))
            if said["planned"] != totals.planned or not success._is_sane():
                raise ValueError("it holds values that no run has")
        return success

    def _is_sane(self) -> bool:
        totals = self.totals
        counts = [totals.images, totals.failed, totals.suspect, totals.split, *totals.codes.values()]
        counts += [part.rows for part in self.metadata]
        texts = [*self.plans, *totals.codes, *(text for part in self.metadata for text in (part.path, part.sha256))]
        return (
            all(type(count) is int and count >= 0 for count in counts)
            and all(isinstance(text, str) for text in texts)
            and isinstance(self.plans, list)
            and math.isfinite(totals.device_seconds)
            and (self.card is None or isinstance(self.card, str))
        )
