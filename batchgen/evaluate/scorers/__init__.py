"""batchgen's own scorers, and how those of others are called. `make_scorer` makes the one that is wanted.

Imports torch and transformers only when a scorer that needs them is made.
"""

from __future__ import annotations

from dataclasses import replace

from batchgen.engines.quiet import quieten
from batchgen.evaluate.scorer import Scorer
from batchgen.evaluate.wanted import Wanted


def make_scorer(wanted: Wanted) -> Scorer:
    """Raises Refused where its model or file is not there or is none."""
    quieten()
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
    if kind == "judge":
        from batchgen.evaluate.scorers.judge import Judge

        return Judge(str(source))
    if kind in ("clip", "clip-original", "demo-clip", "pickscore", "hps"):
        from batchgen.evaluate.scorers.clip_score import clip_score

        return clip_score(kind, source)
    if kind == "vqascore":
        from batchgen.evaluate.scorers.vqa_score import VqaScore

        return VqaScore(source)
    if kind in ("questions", "soft-questions"):
        from batchgen.evaluate.scorers.questions import Questions

        return Questions(source, soft=kind == "soft-questions")
    if kind == "aesthetic":
        from batchgen.evaluate.scorers.aesthetic import Aesthetic

        return Aesthetic(source)
    if kind == "nsfw":
        from batchgen.evaluate.scorers.nsfw import Nsfw

        return Nsfw(source)
    if kind == "detection":
        from batchgen.evaluate.scorers.detection import Detection

        return Detection(source)
    raise ValueError(f"{kind} is no scorer")
