"""What is asked for after `--with`: names of scorers, their models, and where they lie.

    clip                   one of batchgen's own, with the model it usually has
    clip=DIR               the same with another model: a directory, or an id on the Hugging Face hub
    path/to/file.py:Class  your own
    judge.yaml             a model behind an HTTP interface

Knows the texts, and nothing of what a scorer does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchgen.errors import Problem, Refused
from batchgen.words import nearest

# Name → what it measures; the model that it usually has stands beside the scorer.
KNOWN = {
    "clip": "CLIP: 100 × cosine of picture and prompt",
    "clip-original": "CLIP: 2.5 × cosine, not below 0, after 'A photo depicts'",
    "demo-clip": "the same as clip with the demo's own small CLIP",
    "pickscore": "PickScore: scaled cosine of a CLIP that was trained on people's choices",
    "hps": "HPSv2.1: cosine of another such CLIP, which sees the whole picture",
    "oracle": "whether a picture of the demo's world shows what its prompt says",
    "vqascore": "how sure an image-text model is that the picture shows the prompt",
    "questions": "the share of a benchmark's questions that an image-text model answers right",
    "soft-questions": "the same with the model's probability of each right answer",
    "detection": "objects, numbers, places by a detector, colours by CLIP",
    "aesthetic": "LAION's aesthetic predictor v2",
    "nsfw": "how likely a classifier finds a picture not safe for work",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """kind: a key of KNOWN, "own" or "judge". source: a model, a file and class, or a YAML file. name: as stored."""

    kind: str
    source: str | None = None
    name: str | None = None


def parse(texts: Sequence[str], name: str | None = None) -> list[Wanted]:
    """Raises Refused with everything that is no scorer. name: of the one that is asked for."""
    wanted, problems = [], []
    for text in dict.fromkeys(texts):
        kind, _, source = text.partition("=")
        if kind in KNOWN:
            wanted.append(Wanted(kind, source or None, name))
        elif ".py:" in text:
            wanted.append(Wanted("own", text, name))
        elif text.endswith((".yaml", ".yml")):
            wanted.append(Wanted("judge", text, name))
        else:
            there = ", ".join(KNOWN)
            problems.append(
                Problem(f"{text!r} is no scorer{nearest(kind, KNOWN)}. There are {there}; file.py:Class; judge.yaml.")
            )
    if not texts:
        problems.append(Problem(f"no scorer is named. There are {', '.join(KNOWN)}; file.py:Class; judge.yaml."))
    if name and len(wanted) > 1:
        problems.append(Problem("--name names one scorer: ask for one at a time."))
    if problems:
        raise Refused(problems)
    return wanted
