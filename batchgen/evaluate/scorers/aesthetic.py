"""LAION's aesthetic predictor v2: a few linear layers, without anything between them, on a CLIP's picture features.

Its head was published as a pickle; jobs/convert_scorer.py makes a directory of it. Knows no prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchgen.errors import Refused
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scorers.models import find_model
from batchgen.evaluate.scores import About
from batchgen.run.images import Pixels


class Aesthetic:
    def __init__(self, source: str | None) -> None:
        if source is None:
            raise Refused(
                "aesthetic: needs its head. Convert sac+logos+ava1-l14-linearMSE.pth once with jobs/convert_scorer.py, "
                "then write --with aesthetic=DIRECTORY."
            )
        from batchgen.evaluate.scorers.cosines import own_preprocessing

        self._head = find_model(source)
        self._clip = find_model(str(self._head.config.get("clip", "openai/clip-vit-large-patch14")))
        self.about = About(
            scorer=f"aesthetic-{self._head.name}",
            version="1",
            weights_sha256=self._head.sha256,
            low=1.0,
            high=10.0,
            settings={"clip": self._clip.name, "clip_sha256": self._clip.sha256, "dtype": "float32"},
        )
        self._prepare = own_preprocessing(self._clip)

    def load(self, device: str | None) -> None:
        from safetensors.torch import load_file

        from batchgen.evaluate.scorers.cosines import ClipModel

        self._model = ClipModel(self._clip, device)
        tensors = load_file(next(self._head.directory.glob("*.safetensors")), device=str(self._model.device))
        names = sorted((name for name in tensors if name.endswith(".weight")), key=lambda name: int(name.split(".")[1]))
        self._layers = [(tensors[name].float(), tensors[name.replace("weight", "bias")].float()) for name in names]

    def prepare(self, pixels: Pixels, row: Row) -> Any:
        return self._prepare(pixels)

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        features = self._model.pictures(prepared)
        for weight, bias in self._layers:
            features = features @ weight.T + bias
        return [Score(value) for value in features[:, 0].tolist()]
