"""The target of a benchmark: the folder that its scorer reads, one for each cell of the run.

Knows the columns that an imported benchmark has; where a file goes is known to the benchmark's own file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Benchmark, Place, Prompt, Shown
from batchgen.export.forms import shaped
from batchgen.export.target import File, Row
from batchgen.words import visible

STRANGE = re.compile(r"[^\w.=,+-]+")  # what a folder's name does not hold


@dataclass(frozen=True, slots=True)
class BenchmarkFolder:
    """model: the name under which benchmarks that want one find the images."""

    benchmark: Benchmark
    model: str

    @property
    def name(self) -> str:
        return self.benchmark.name

    def roots(self, rows: Sequence[Row]) -> Sequence[str]:
        cells = dict.fromkeys(str(row.values["cell"]) for row in rows)
        if len(cells) <= 1:
            return [""]
        names = [plain(cell) for cell in cells]
        return names if len(set(names)) == len(names) else [f"{at}-{name}" for at, name in enumerate(names)]

    def files(self, rows: Sequence[Row]) -> Iterator[File]:
        cells: dict[str, list[Row]] = {}
        for row in rows:
            cells.setdefault(str(row.values["cell"]), []).append(row)
        for root, members in zip(self.roots(rows), cells.values(), strict=True):
            by_id = {row.image_id: row for row in members}
            for place in self.benchmark.place([self._shown(row.values) for row in members], self.model):
                yield File(f"{root}/{place.path}".lstrip("/"), place.images, partial(_bytes, place, by_id))

    def _shown(self, values: Mapping[str, Any]) -> Shown:
        return Shown(str(values["image_id"]), int(values["sample_index"]), prompt_of(self.benchmark, values))


def prompt_of(benchmark: Benchmark, values: Mapping[str, Any]) -> Prompt:
    """The benchmark's prompt that a row shows. Raises Refused where the row is of none, or of another benchmark."""
    if values.get("benchmark") != benchmark.name:
        raise Refused(
            f"image {values['image_id']} (prompt {visible(str(values['prompt']))!r}) is not of {benchmark.title}: its "
            f"column benchmark says {values.get('benchmark')!r}. Render a manifest that was made with batchgen import "
            f"{benchmark.name}, or choose its images with a selection."
        )
    return Prompt(
        benchmark_id=str(values["benchmark_id"]),
        prompt=str(values["benchmark_prompt"] if values.get("benchmark_prompt") else values["prompt"]),
        record=str(values["benchmark_record"]),
        category=str(values["category"]),
    )


def plain(text: str) -> str:
    """As the name of a folder."""
    return STRANGE.sub("-", text).strip("-.") or "images"


def _bytes(place: Place, rows: Mapping[str, Row]) -> bytes:
    if not place.images:
        return place.text
    return shaped([None if one is None else rows[one].picture() for one in place.images], place.form)
