"""batchgen's own scorers, and how those of others are called. `make_scorer` makes the one that is wanted.

Imports torch and transformers only when a scorer that needs them is made.
"""

from __future__ import annotations

from dataclasses import replace

from batchgen.evaluate.scorer import Scorer
from batchgen.evaluate.wanted import Wanted


def make_scorer(wanted: Wanted) -> Scorer:
    """Raises Refused where its model or file is not there or is none."""
    scorer = _make(wanted.kind, wanted.source)
    if wanted.name:
        scorer.about = replace(scorer.about, scorer=wanted.name)
    return scorer


def _make(kind: str, source: str | None) -> Scorer:
    if kind == "oracle":
        from batchgen.evaluate.scorers.oracle import Oracle

        return Oracle()
    if kind == "own":
        from batchgen.evaluate.scorers.own import Own

        return Own(str(source))
    if kind in ("clip", "clip-original", "demo-clip", "pickscore", "hps"):
        from batchgen.evaluate.scorers.clip_score import clip_score

        return clip_score(kind, source)
    raise NotImplementedError(kind)
