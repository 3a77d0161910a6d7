"""A scorer of yours: a class in a file, with one method `score(images, rows)` that returns a dict for each image.

    class Redness:
        def score(self, images, rows):
            return [{"score": np.asarray(image)[..., 0].mean(), "anything": "else"} for image in images]

images are PIL images, rows are dicts of all columns but the picture. The class is made once for each process, without
arguments. It may say `higher_is_better`, `low` and `high`. Runs that file: whoever can write it can do anything here.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from batchgen.errors import Refused
from batchgen.evaluate.scorer import Row, Score
from batchgen.evaluate.scores import About
from batchgen.run.images import Pixels
from batchgen.weights.digests import sha256_of


class Own:
    def __init__(self, source: str) -> None:
        path, _, name = source.rpartition(":")
        kind = _class_of(Path(path), name)
        self._kind = kind
        self.about = About(
            scorer=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "own",
            version=sha256_of(Path(path).read_bytes())[:16],  # of the file: scores of another one are not mixed with it
            higher_is_better=bool(getattr(kind, "higher_is_better", True)),
            low=getattr(kind, "low", None),
            high=getattr(kind, "high", None),
        )

    def load(self, device: str | None) -> None:
        self._own = self._kind()

    def prepare(self, pixels: Pixels, row: Row) -> Image.Image:
        return Image.fromarray(pixels)

    def score(self, prepared: Sequence[Any], rows: Sequence[Row]) -> list[Score]:
        return [_score(one) for one in self._own.score(list(prepared), [dict(row) for row in rows])]


def _class_of(file: Path, name: str) -> Any:
    """The class in a file. Raises Refused where it is none that scores."""
    module_name = f"batchgen_scorer_{sha256_of(str(file.resolve()).encode())[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise Refused(f"{file}: is no Python file. Write --with path/to/file.py:Class.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is yours: any error is worth the same words
        raise Refused(f"{file}: cannot be imported ({type(error).__name__}: {error}).") from error
    kind = getattr(module, name, None)
    if not callable(getattr(kind, "score", None)):
        there = [one for one, value in vars(module).items() if isinstance(value, type) and hasattr(value, "score")]
        raise Refused(f"{file}: has no class {name!r} with a method score(images, rows); it has {there or 'none'}.")
    return kind


def _score(answer: Any) -> Score:
    """Of one image: `score` is its number, `error` says why it has none, all else is kept beside it."""
    if not isinstance(answer, Mapping) or not {"score", "error"} & set(answer):
        raise ValueError(f"score() must give a dict with a number 'score' for each image, not {answer!r}")
    rest = {str(key): _plain(value) for key, value in answer.items() if key not in ("score", "error")}
    number, error = answer.get("score"), answer.get("error")
    return Score(None if number is None else float(number), rest or None, None if error is None else str(error))


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy as JSON has them."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
