"""How likely a classifier finds a picture not safe for work. A score beside the others: nothing is blanked or removed.

Knows no prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgen.errors import Refused
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scorers.models import find_model
from batchgen.evaluate.scores import About
from batchgen.run.images import Pixels

LABEL = "nsfw"


class Nsfw:
    def __init__(self, source: str | None) -> None:
        from transformers import AutoImageProcessor

        self._files = find_model(source or "Falconsai/nsfw_image_detection")
        labels = {str(name).lower(): int(number) for number, name in self._files.config.get("id2label", {}).items()}
        if LABEL not in labels:
            raise Refused(f"{self._files.name}: has no label {LABEL!r}, only {', '.join(labels) or 'none'}.")
        self._label = labels[LABEL]
        self._processor = AutoImageProcessor.from_pretrained(self._files.directory)
        self.about = About(
            scorer=f"{LABEL}-{self._files.name.removeprefix('nsfw').lstrip('_-') or 'model'}",
            version="1",
            weights_sha256=self._files.sha256,
            higher_is_better=False,
            low=0.0,
            high=1.0,
            settings={"model": self._files.name, "dtype": "float32"},
        )

    def load(self, device: str | None) -> None:
        from transformers import AutoModelForImageClassification

        from batchgen.evaluate.scorers.loading import device_named, load_model

        self._device = device_named(device)
        self._model = load_model(AutoModelForImageClassification, self._files.directory, self._device)

    def prepare(self, pixels: Pixels, row: Row) -> Any:
        return self._processor(pixels, return_tensors="pt")["pixel_values"][0]

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        import torch

        with torch.inference_mode():
            logits = self._model(pixel_values=torch.stack(list(prepared)).to(self._device)).logits
        return [Score(value) for value in logits.softmax(dim=1)[:, self._label].tolist()]
