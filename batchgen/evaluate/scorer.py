"""What a scorer is: pixels and a row in, a number out. Everything else about scoring is somebody else's business.

Knows no model, no store and no file. batchgen's own scorers lie in `scorers/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from batchgen.evaluate.scores import About
from batchgen.run.images import Pixels

Row = Mapping[str, Any]  # of data/, without the picture


@dataclass(frozen=True, slots=True)
class Score:
    """Of one picture. score: None where there is none. detail: what it is made of. error: why there is none."""

    score: float | None = None
    detail: Mapping[str, Any] | None = None
    error: str | None = None


class Scorer(Protocol):
    """Making one is cheap and finds what is missing; load() takes the memory.

    prepare() runs in several threads, ahead of the model. What it or score() raises for one picture becomes that
    picture's error; a BatchgenError ends the work.
    """

    about: About

    def load(self, device: str | None) -> None:
        """Be ready for score(). device: as torch names it; None: the GPU of this process, or its CPU."""

    def prepare(self, pixels: Pixels, row: Row) -> Any:
        """What score() takes of one picture."""

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        """One for each, in their order."""
