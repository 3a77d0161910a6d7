"""Are the objects there, by a detector that takes words, and in their colours, by CLIP? 1 or 0, as GenEval asks.

Detector-based and named so: by the detector and the CLIP that ran. Colours are read from boxes, with their background.
Knows the column `benchmark_record`, and not where the rules come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchgen.errors import Refused
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scorers.boxes import Box, kept, mistakes
from batchgen.evaluate.scorers.models import find_model
from batchgen.evaluate.scores import About
from batchgen.run.images import Pixels

DETECTOR, CLIP = "google/owlv2-base-patch16-ensemble", "openai/clip-vit-large-patch14"
BY_NAMES, BY_PHRASES = ("owlvit", "owlv2"), ("grounding-dino", "mm-grounding-dino")  # how a detector is asked
SURE = 0.1  # boxes below it are not looked at; which of the others count, boxes.py says
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")  # GenEval's ten
TEMPLATES = ("a photo of a {} {}", "a photo of a {}-colored {}", "a photo of a {} object")  # and its three


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what should be in it."""

    pixels: Pixels
    record: dict[str, Any]
    classes: list[str]


class Detection:
    """source: a detector, or a detector and a CLIP with a comma between them."""

    def __init__(self, source: str | None) -> None:
        from batchgen.evaluate.scorers.cosines import architecture, own_preprocessing

        detector, _, clip = (source or DETECTOR).partition(",")
        self._detector, self._clip = find_model(detector), find_model(clip or CLIP)
        self._kind = str(self._detector.config.get("model_type"))
        if self._kind not in (*BY_NAMES, *BY_PHRASES):
            raise Refused(
                f"{detector}: is a {self._kind}, and nobody here knows how to ask it for objects. Name a detector of "
                f"the kinds {', '.join((*BY_NAMES, *BY_PHRASES))}."
            )
        self.about = About(
            scorer=f"boxes-{self._detector.name}-clip-{architecture(self._clip.config)}",
            version="1",
            weights_sha256=self._detector.sha256,
            low=0.0,
            high=1.0,
            settings={"detector": self._detector.name, "clip": self._clip.name, "clip_sha256": self._clip.sha256},
        )
        self._prepare = own_preprocessing(self._clip)

    def load(self, device: str | None) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        from batchgen.evaluate.scorers.cosines import ClipModel
        from batchgen.evaluate.scorers.loading import device_named, load_model

        self._device = device_named(device)
        self._processor = AutoProcessor.from_pretrained(self._detector.directory)
        self._model = load_model(AutoModelForZeroShotObjectDetection, self._detector.directory, self._device)
        self._colours = ClipModel(self._clip, device)

    def prepare(self, pixels: Pixels, row: Row) -> Scene:
        record = json.loads(row.get("benchmark_record") or "{}")
        if not isinstance(record, dict) or not record.get("include"):
            raise ValueError("this row says no objects: its benchmark_record has no `include`")
        wanted = [*record["include"], *record.get("exclude", ())]
        return Scene(pixels, record, list(dict.fromkeys(one["class"] for one in wanted)))

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        return [self._verdict(scene) for scene in prepared]

    def _verdict(self, scene: Scene) -> Score:
        found = kept(self._found(scene), counts=scene.record.get("tag") == "counting")
        names = {id(box): name for name, boxes in found.items() for box in boxes}
        wrong = mistakes(scene.record, found, lambda box: self.colour_of(scene.pixels, box, names[id(box)]))
        detail = {"found": {name: len(boxes) for name, boxes in found.items()}} | ({"wrong": wrong} if wrong else {})
        return Score(float(not wrong), detail)

    def _found(self, scene: Scene) -> dict[str, list[Box]]:
        """Boxes of each class, also of those that are not sure enough to count."""
        if self._kind in BY_NAMES:
            return self._by_names(scene)
        return {name: self._by_phrase(scene.pixels, name) for name in scene.classes}

    def _by_names(self, scene: Scene) -> dict[str, list[Box]]:
        """A detector that is given all names at once, and says of each box whose it is."""
        queries = [f"a photo of a {name}" for name in scene.classes]
        inputs = self._inputs([queries], scene.pixels)
        (answer,) = self._processor.post_process_grounded_object_detection(
            self._seen(inputs), threshold=SURE, target_sizes=[scene.pixels.shape[:2]], text_labels=[scene.classes]
        )
        found: dict[str, list[Box]] = {name: [] for name in scene.classes}
        for box, name in zip(_boxes(answer), answer["text_labels"], strict=True):
            found[name].append(box)
        return found

    def _by_phrase(self, pixels: Pixels, name: str) -> list[Box]:
        """A detector that reads a sentence and says which of its words a box is of. It is asked for one class at a
        time: of several it may answer with words of two."""
        inputs = self._inputs(f"{name.lower()}.", pixels)  # small letters and a full stop, as its model card says
        (answer,) = self._processor.post_process_grounded_object_detection(
            self._seen(inputs), inputs["input_ids"], threshold=SURE, target_sizes=[pixels.shape[:2]]
        )
        return _boxes(answer)

    def _inputs(self, text: Any, pixels: Pixels) -> Any:
        return self._processor(text=text, images=pixels, return_tensors="pt").to(self._device)

    def _seen(self, inputs: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self._model(**inputs)

    def colour_of(self, pixels: Pixels, box: Box, name: str) -> str:
        """Which of ten colours CLIP sees in a box: the mean of three phrasings of each, against the crop."""
        height, width = pixels.shape[:2]
        left, right = (int(np.clip(round(x), 0, width)) for x in (box.left, box.right))
        top, bottom = (int(np.clip(round(y), 0, height)) for y in (box.top, box.bottom))
        crop = np.ascontiguousarray(pixels[top : max(bottom, top + 1), left : max(right, left + 1)])
        texts, _ = self._colours.texts([one.format(colour, name) for colour in COLOURS for one in TEMPLATES])
        of_colours = texts.reshape(len(COLOURS), len(TEMPLATES), -1).mean(dim=1)
        picture = self._colours.pictures([self._prepare(crop)])[0]
        of_colours = of_colours / of_colours.norm(dim=1, keepdim=True)
        return COLOURS[int((of_colours @ picture).argmax())]


def _boxes(answer: Mapping[str, Any]) -> list[Box]:
    corners, sure = answer["boxes"].tolist(), answer["scores"].tolist()
    return [
        Box(left, top, right, bottom, score) for (left, top, right, bottom), score in zip(corners, sure, strict=True)
    ]
