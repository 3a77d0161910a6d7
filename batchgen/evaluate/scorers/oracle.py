"""The demo world's own judge: does the picture show the scene that its prompt describes? 1 or 0.

Reads the prompt as the demo's world writes it; of any other prompt it can say nothing, and says so. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgen.demo import oracle
from batchgen.demo.reading import scene_of
from batchgen.evaluate.asked import asked
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scores import About
from batchgen.run.images import Pixels


class Oracle:
    def __init__(self) -> None:
        self.about = About(scorer="oracle", version="1", low=0.0, high=1.0)

    def load(self, device: str | None) -> None:
        """There is nothing to load."""

    def prepare(self, pixels: Pixels, row: Row) -> list[str]:
        """What is wrong with the picture, in words. Looking is work for the threads: there is no model to wait for."""
        return oracle.mistakes(pixels, scene_of(asked(row)))

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        return [Score(float(not wrong), {"wrong": wrong} if wrong else None) for wrong in prepared]
