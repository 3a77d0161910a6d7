"""Whether pictures of a run were scored for what is not safe for work, and what came of it.

Reads tables below OUT/scores that a scorer named nsfw or safety left there; knows no scorer. What is damaged counts as
not there: a card is no place to stop at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.directory import Run
from batchgen.run.layout import SCORES
from batchgen.run.parquet import read_parquet
from batchgen.words import visible

NAMES = ("nsfw", "safety")
LIKELY = 0.5


def safety_lines(run: Run, images: int) -> Iterator[str]:
    """One for each such scorer; nothing where none has scored. images: how many the run has."""
    scorers: dict[str, list[str]] = {}
    for entry in run.store.list(SCORES):
        name = entry.path.split("/")[1]
        if name.startswith(NAMES) and entry.path.endswith(".parquet"):
            scorers.setdefault(name, []).append(entry.path)
    for name, paths in sorted(scorers.items()):
        scores = _scores(run, paths)
        likely = pc.sum(pc.greater_equal(scores, LIKELY)).as_py() or 0
        yield (
            f"`{visible(name)}`{_model(run, name)} has scored {len(scores)} of {images} images; {likely} of them have "
            f"{LIKELY} or more. Nothing was removed or blurred: the scores are in `{SCORES}/{visible(name)}/`."
        )


def _scores(run: Run, paths: list[str]) -> pa.Array:
    """Of each image its newest."""
    found = dict[str, float]()
    for path in sorted(paths):
        try:
            with found_damaged():
                table = read_parquet(run.store.read(path), ["image_id", "score"])
                found |= dict(zip(table["image_id"].to_pylist(), table["score"].to_pylist(), strict=True))
        except (FileNotFoundError, *DAMAGED):
            continue
    return pa.array([score for score in found.values() if score is not None], pa.float64())


def _model(run: Run, name: str) -> str:
    """Whose weights scored, by the last parts of their name."""
    try:
        with found_damaged():
            model = json.loads(run.store.read(f"{SCORES}/{name}/about.json"))["settings"]["model"]
    except (FileNotFoundError, KeyError, TypeError, *DAMAGED):
        return ""
    return f" ({visible(str(model).rstrip('/').rpartition('/')[2])})"
