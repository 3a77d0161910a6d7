"""A benchmark's questions about a picture, asked of an image-text model: how many does it answer as it should?

`questions` counts an answer right when no other token is likelier to begin it; `soft-questions` takes the probability
of the right answer instead (Soft-TIFA of GenEval 2, whose geometric mean stands in the detail). A question whose parent
was not answered right counts 0: there is no colour of a dog that is not there. Knows the column `questions`, and no
benchmark's total.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scorers.models import find_model
from batchgen.evaluate.scorers.vqa_score import USUAL
from batchgen.run.images import Pixels

TEMPLATE = "{} Answer in one word."  # GenEval 2's
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# DPG's own code zeroes in place, so that a child of a child falls as well; DSG's and OneIG's look at answers only.
FALL_TOGETHER = {"dpg"}


@dataclass(frozen=True, slots=True)
class Question:
    """answer: the right one. parents: ids of questions without whose right answer this one has no sense."""

    id: str
    text: str
    answer: str
    parents: tuple[str, ...]


class Questions:
    def __init__(self, source: str | None, soft: bool) -> None:
        from batchgen.evaluate.scorers.language import about

        self._files, self._soft = find_model(source or USUAL), soft
        self.about = about("soft-questions" if soft else "questions", self._files, TEMPLATE)

    def load(self, device: str | None) -> None:
        from batchgen.evaluate.scorers.language import ImageTextModel

        self._model = ImageTextModel(self._files, device)

    def prepare(self, pixels: Pixels, row: Row) -> tuple[Image.Image, list[Question]]:
        return Image.fromarray(pixels), questions_of(row)

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        pairs = [(picture, question) for picture, questions in prepared for question in questions]
        answers = iter(
            [
                answer
                for at in range(0, len(pairs), len(prepared))
                for answer in self._answers(pairs[at : at + len(prepared)])
            ]
        )
        return [
            verdict(
                [question for question in questions],
                [next(answers) for _ in questions],
                self._soft,
                row.get("benchmark") in FALL_TOGETHER,
            )
            for (_, questions), row in zip(prepared, rows, strict=True)
        ]

    def _answers(self, pairs: Sequence[tuple[Image.Image, Question]]) -> Iterator[tuple[float, bool]]:
        """Of each question: the probability of its right answer, and whether that is the likeliest of all."""
        found = self._model.first_tokens(
            [picture for picture, _ in pairs], [TEMPLATE.format(question.text) for _, question in pairs]
        )
        for probabilities, (_, question) in zip(found, pairs, strict=True):
            tokens = self._model.tokens(spellings(question.answer))
            yield min(1.0, float(probabilities[tokens].sum())), int(probabilities.argmax()) in tokens


def questions_of(row: Row) -> list[Question]:
    """Raises ValueError where the row has none."""
    if not row.get("questions"):
        raise ValueError("this row has no questions: the column `questions` of its benchmark is empty")
    return [
        Question(str(one["id"]), one["question"], one["answer"], tuple(map(str, one.get("parents") or ())))
        for one in json.loads(row["questions"])
    ]


def spellings(answer: str) -> list[str]:
    """As a model may begin its answer: with a capital or not, with a blank or not, a number also as a digit."""
    word = answer.strip().lower()
    words = [word, word.capitalize()] + ([str(NUMBERS.index(word))] if word in NUMBERS else [])
    return [blank + one for one in words for blank in ("", " ")]


def verdict(
    questions: Sequence[Question], answers: Sequence[tuple[float, bool]], soft: bool, fall_together: bool = False
) -> Score:
    """answers: of each question, the probability of the right one, and whether it was given."""
    values = {one.id: float(p if soft else right) for one, (p, right) in zip(questions, answers, strict=True)}
    wrong = {one.id for one, (_, right) in zip(questions, answers, strict=True) if not right}
    counted = dict(_with_parents(questions, values, wrong, fall_together))
    mean = sum(counted.values()) / len(counted)
    geometric = math.prod(counted.values()) ** (1 / len(counted))
    detail = {"questions": counted, "geometric_mean": geometric}
    if zeroed := [key for key, value in values.items() if counted[key] != value]:
        detail["zeroed"] = zeroed
    return Score(mean, detail)


def _with_parents(
    questions: Sequence[Question], values: Mapping[str, float], wrong: set[str], fall_together: bool
) -> Iterator[tuple[str, float]]:
    for question in questions:
        falls = any(parent in wrong for parent in question.parents)
        if falls and fall_together:
            wrong.add(question.id)
        yield question.id, 0.0 if falls else values[question.id]
