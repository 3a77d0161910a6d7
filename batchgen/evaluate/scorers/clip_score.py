"""How alike a picture and its prompt are to a CLIP, in the variants that are in use. Each has a name of its own.

Knows the formulas, and neither files nor the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.demo import CLIP
from batchgen.evaluate.asked import asked
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scorers.models import PREPROCESSOR, ModelFiles, find_model, refuse_without
from batchgen.evaluate.scores import About
from batchgen.run.images import Pixels


@dataclass(frozen=True, slots=True)
class Formula:
    """name: as in the scorer's. of: cosine and the model's own scale → score. prefix: before each prompt."""

    name: str
    of: Callable[[float, float], float]
    low: float | None
    high: float | None
    prefix: str = ""


COSINE = Formula("cos", lambda cosine, scale: cosine, -1.0, 1.0)
HUNDRED = Formula("100cos", lambda cosine, scale: 100 * cosine, -100.0, 100.0)  # torchmetrics, before its mean
# Hessel et al., arXiv 2104.08718, 3: w = 2.5, and the prefix that they found to help.
ORIGINAL = Formula("2.5cos", lambda cosine, scale: 2.5 * max(cosine, 0.0), 0.0, 2.5, "A photo depicts ")
SCALED = Formula("scaledcos", lambda cosine, scale: scale * cosine, None, None)  # PickScore's model card


WORDS = ("tokenizer.json", "tokenizer_config.json")
PICKSCORE = "yuvalkirstain/PickScore_v1"  # weights and config only; its card names where the rest is
PICKSCORE_PROCESSOR = HPS_PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # which both were trained from


class ClipScore:
    def __init__(self, name: str, files: ModelFiles, formula: Formula, padded: bool = False) -> None:
        self._files, self._formula = files, formula
        settings = {"model": files.name, "formula": formula.name, "prefix": formula.prefix, "dtype": "float32"}
        settings["preprocessing"] = "longest side, black pad" if padded else "the model's own"
        self.about = About(
            scorer=f"{name}-{formula.name}",
            version="1",
            weights_sha256=files.sha256,
            low=formula.low,
            high=formula.high,
            settings=settings,
        )
        self._prepare: Callable[[Pixels], Any]
        if padded:
            from batchgen.evaluate.scorers.padding import padded_to

            self._prepare = padded_to(files)
        else:
            from batchgen.evaluate.scorers.cosines import own_preprocessing

            self._prepare = own_preprocessing(files)

    def load(self, device: str | None) -> None:
        from batchgen.evaluate.scorers.cosines import ClipModel

        self._model = ClipModel(self._files, device)

    def prepare(self, pixels: Pixels, row: Row) -> Any:
        return self._prepare(pixels)

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        texts, tokens = self._model.texts([self._formula.prefix + asked(row) for row in rows])
        cosines = (self._model.pictures(prepared) * texts).sum(dim=1).tolist()
        scale, longest = self._model.scale, self._model.longest
        return [
            Score(self._formula.of(cosine, scale), {"tokens": count, "read": longest} if count > longest else None)
            for cosine, count in zip(cosines, tokens, strict=True)
        ]


def clip_score(kind: str, source: str | None) -> ClipScore:
    """The one of this name; source: another model than it usually has."""
    from batchgen.evaluate.scorers.cosines import architecture

    if kind == "pickscore":
        files = find_model(source or PICKSCORE)
        refuse_without(files, [PREPROCESSOR, *WORDS], PICKSCORE_PROCESSOR)
        return ClipScore(files.name, files, SCALED)
    if kind == "hps":
        files = find_model(source or "hps_v2.1")
        refuse_without(files, WORDS, HPS_PROCESSOR)
        return ClipScore(files.name, files, COSINE, padded=True)
    files = find_model(source or (str(CLIP) if kind == "demo-clip" else "openai/clip-vit-large-patch14"))
    refuse_without(files, WORDS, "the model that it was made from")
    name = "demo-clip" if kind == "demo-clip" else f"clip-{architecture(files.config)}"
    return ClipScore(name, files, ORIGINAL if kind == "clip-original" else HUNDRED)
