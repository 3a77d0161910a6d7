"""Where one scorer sits: pictures come in one by one, go to it in batches, and a shard is stored when it is complete.

Batches go across shards, so that small shards cost no speed. A batch at which the scorer raises is tried picture by
picture: only those at which it raises alone are without a score. Knows no files but those of scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchgen.errors import BatchgenError, OutOfMemory
from batchgen.evaluate.scorer import Row, Score, Scorer
from batchgen.evaluate.scores import write_shard
from batchgen.storage.store import Store
from batchgen.words import redact


@dataclass(frozen=True, slots=True)
class Done:
    """A shard that a scorer has seen. images: of the shard. errors: without a score. why: of the first of them."""

    scorer: str
    shard: int
    images: int
    errors: int
    why: str | None = None


@dataclass(slots=True)
class Sheet:
    """The scores of one shard, as they come in."""

    image_ids: Sequence[str]
    scores: dict[int, Score] = field(default_factory=dict)

    def rows(self) -> Iterator[dict[str, Any]]:
        for at, image_id in enumerate(self.image_ids):
            one = self.scores[at]
            detail = None if one.detail is None else json.dumps(one.detail, ensure_ascii=False)
            yield {"image_id": image_id, "score": one.score, "detail": detail, "error": one.error}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A picture that waits until a batch is full."""

    shard: int
    at: int
    row: Row
    prepared: Any


class Desk:
    """Of one scorer."""

    def __init__(self, scorer: Scorer, store: Store, batch_size: int) -> None:
        self.scorer = scorer
        self._store, self._batch_size = store, batch_size
        self._batch: list[Waiting] = []
        self._sheets: dict[int, Sheet] = {}

    def open(self, shard: int, image_ids: Sequence[str]) -> None:
        """Say which pictures of a shard will come."""
        self._sheets[shard] = Sheet(image_ids)

    def take(self, shard: int, at: int, row: Row, prepared: Any) -> Iterator[Done]:
        """One picture of an open shard; a Score instead of what was prepared is final."""
        if isinstance(prepared, Score):
            self._sheets[shard].scores[at] = prepared
        else:
            self._batch.append(Waiting(shard, at, row, prepared))
        if len(self._batch) >= self._batch_size:
            self._score()
        yield from self._store_complete()

    def finish(self) -> Iterator[Done]:
        """Score what waits for a full batch."""
        if self._batch:
            self._score()
        yield from self._store_complete()

    def _score(self) -> None:
        batch, self._batch = self._batch, []
        for one, score in zip(batch, self._asked(batch), strict=True):
            self._sheets[one.shard].scores[one.at] = score

    def _asked(self, batch: list[Waiting]) -> list[Score]:
        """The scorer's word on a batch. What it raises is an error of one picture, unless it is one of batchgen's."""
        try:
            scores = self.scorer.score([one.prepared for one in batch], [one.row for one in batch])
            if len(scores) != len(batch):
                raise ValueError(f"{len(scores)} scores for {len(batch)} pictures")
            return [_finite(score) for score in scores]
        except BatchgenError as error:
            if not isinstance(error, OutOfMemory):
                raise
            reason: Exception = error
        except Exception as error:  # noqa: BLE001  a scorer may be anybody's: any error is the picture's
            reason = error
        return [failed(reason)] if len(batch) == 1 else [score for one in batch for score in self._asked([one])]

    def _store_complete(self) -> Iterator[Done]:
        name = self.scorer.about.scorer
        for shard in [number for number, sheet in self._sheets.items() if len(sheet.scores) == len(sheet.image_ids)]:
            sheet = self._sheets.pop(shard)
            write_shard(self._store, name, shard, sheet.rows())
            errors = sum(score.error is not None for score in sheet.scores.values())
            why = next((score.error for score in sheet.scores.values() if score.error is not None), None)
            yield Done(name, shard, len(sheet.image_ids), errors, why)


def failed(error: Exception) -> Score:
    return Score(error=redact(f"{type(error).__name__}: {error}"))


def _finite(score: Score) -> Score:
    """A number that is none would become the mean of everything."""
    if score.score is None or math.isfinite(score.score):
        return score
    return Score(detail=score.detail, error=f"the scorer said {score.score}")
