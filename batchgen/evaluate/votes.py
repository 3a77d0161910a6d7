"""Blind votes of people on pairs of images: read from the page of a comparison, and summed up as win rates.

Knows the lines that the page saves (page/page.js). An image's score is the share of its pairs that it won, a tie being
half of one; a win rate is of two columns, prompt by prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from batchgen.errors import Refused
from batchgen.evaluate.bootstrap import draw, totals
from batchgen.evaluate.intervals import NEW_PROMPTS, Interval, over_prompts
from batchgen.evaluate.scores import About
from batchgen.evaluate.weighing import Weights
from batchgen.run.plans import digest
from batchgen.words import visible

WON = {"left": (1.0, 0.0), "right": (0.0, 1.0), "tie": (0.5, 0.5)}
SEED = 0  # of the bootstrap: the same votes give the same interval
Text = Annotated[str, StringConstraints(max_length=2000)]


class Vote(BaseModel):
    """One line. prompt: its key on the page. left, right: image_ids; *_run, *_column: whose they are."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    rater: Text
    prompt: Text
    vote: Literal["left", "right", "tie"]
    left: Text
    right: Text
    left_run: Text
    right_run: Text
    left_column: Text
    right_column: Text


class WinRate(BaseModel):
    """Of `one` against `other`: the mean over prompts of the share of votes that it won, ties being half."""

    one: str
    other: str
    rate: float
    interval: Interval
    prompts: int
    votes: int
    ties: int
    raters: int

    def line(self) -> str:
        """For people."""
        ends = f"{self.interval.low:.1%} to {self.interval.high:.1%}, {self.interval.name}"
        return (
            f"{self.one} against {self.other}: {self.rate:.1%} won ({ends}), {self.votes} votes of {self.raters} "
            f"raters on {self.prompts} prompts, {self.ties} ties"
        )


def read_votes(files: Sequence[Path]) -> list[Vote]:
    """Raises Refused, with all lines that are none."""
    votes, problems = list[Vote](), list[str]()
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{file}: cannot be read ({error}). Name the votes.jsonl that the page saved.") from error
        for number, line in enumerate(lines, 1):
            try:
                votes.append(Vote.model_validate_json(line))
            except ValidationError as error:
                problems.append(f"{file}, line {number}: is no vote ({visible(error.errors()[0]['msg'])})")
    if problems or not votes:
        more = f"\nand {len(problems) - 20} more" if len(problems) > 20 else ""
        raise Refused("\n".join(problems[:20] or ["There is no vote."]) + more)
    return votes


def scores_of(
    votes: Sequence[Vote], files: Sequence[Path], image_ids: set[str], name: str = "votes"
) -> tuple[About, list[dict[str, object]]]:
    """The scores of these images. image_ids: of the run. Raises Refused where no vote is on any of them."""
    won: dict[str, list[float]] = {}
    for vote in votes:
        for image_id, share in zip((vote.left, vote.right), WON[vote.vote], strict=True):
            if image_id in image_ids:
                won.setdefault(image_id, []).append(share)
    if not won:
        raise Refused(
            f"{', '.join(map(str, files))}: no vote is on an image of this run. Name the run that was compared."
        )
    said = [f"{file.name} {digest(file.read_bytes())[:12]}" for file in files]
    about = About(scorer=name, version="1", low=0.0, high=1.0, source=", ".join(said), settings={"files": said})
    return about, [
        {"image_id": image_id, "score": float(np.mean(shares)), "detail": json.dumps({"pairs": len(shares)})}
        for image_id, shares in won.items()
    ]


def win_rates(votes: Sequence[Vote]) -> Iterator[WinRate]:
    """Of each two columns that were held against each other."""
    pairs: dict[tuple[str, str], list[Vote]] = {}
    for vote in votes:
        one, other = sorted((vote.left_column, vote.right_column))
        pairs.setdefault((one, other), []).append(vote)
    for (one, other), found in sorted(pairs.items()):
        shares: dict[str, list[float]] = {}
        for vote in found:
            left, right = WON[vote.vote]
            shares.setdefault(vote.prompt, []).append(left if vote.left_column == one else right)
        values = np.array([[np.mean(given)] for given in shares.values()])
        weights = Weights.equal(np.ones(len(values)))
        drawn = totals(weights, draw(weights, values, np.random.default_rng(SEED)))
        (interval,) = over_prompts(weights, values, drawn, (0.0, 1.0), NEW_PROMPTS)
        yield WinRate(
            one=one,
            other=other,
            rate=float(weights.value(values)[0]),
            interval=interval,
            prompts=len(values),
            votes=len(found),
            ties=sum(vote.vote == "tie" for vote in found),
            raters=len({vote.rater for vote in found}),
        )
