"""How sure an image-text model is that a picture shows its prompt: the probability that it answers Yes.

After VQAScore (Lin et al., arXiv 2404.01291) with the template of t2v_metrics for chat models: P("Yes") over the whole
vocabulary, not against "No". Knows the formula and not the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from batchgen.evaluate.asked import asked
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scorers.models import find_model
from batchgen.run.images import Pixels

TEMPLATE = 'Does this figure show "{}"? Please answer Yes or No.'
ANSWER = "Yes"
USUAL = "Qwen/Qwen3-VL-8B-Instruct"


class VqaScore:
    def __init__(self, source: str | None) -> None:
        from batchgen.evaluate.scorers.language import about

        self._files = find_model(source or USUAL)
        self.about = about("vqascore", self._files, TEMPLATE)

    def load(self, device: str | None) -> None:
        from batchgen.evaluate.scorers.language import ImageTextModel

        self._model = ImageTextModel(self._files, device)
        self._yes = self._model.tokens([ANSWER])

    def prepare(self, pixels: Pixels, row: Row) -> Image.Image:
        return Image.fromarray(pixels)

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        questions = [TEMPLATE.format(asked(row)) for row in rows]
        found = self._model.first_tokens(prepared, questions)[:, self._yes].sum(dim=1)
        return [Score(value) for value in found.tolist()]
