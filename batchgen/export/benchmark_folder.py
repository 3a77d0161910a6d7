"""The target of a benchmark: the folder that its scorer reads, one for each cell of the run.

Knows the columns that an imported benchmark has; where a file goes is known to the benchmark's own file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from batchgen.errors import Refused
from batchgen.evaluate.asked import asked
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

    @property
    def wants(self) -> str:
        return f"{self.benchmark.title} takes {self.benchmark.images or 'any number of'} images of each prompt."

    def roots(self, rows: Sequence[Row]) -> Sequence[str]:
        return list(self._folders(rows))

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        cells = _folders_of_cells(rows)
        if len(cells) == 1:  # which has no folder of its own
            return []
        return [f"the cell {cell} is the folder {name} there" for cell, name in cells.items() if cell != name]

    def files(self, rows: Sequence[Row]) -> Iterator[File]:
        for root, members in self._folders(rows).items():
            by_id = {row.image_id: row for row in members}
            for place in self.benchmark.place([self._shown(row.values) for row in members], self.model):
                yield File(f"{root}/{place.path}".lstrip("/"), place.images, partial(_bytes, place, by_id))

    def _folders(self, rows: Sequence[Row]) -> dict[str, list[Row]]:
        """Rows by the folder that a scorer is pointed at: of a cell, and of a sample where it takes one a prompt."""
        cells = _folders_of_cells(rows)
        several = self.benchmark.images == 1 and len({row.values["sample_index"] for row in rows}) > 1
        found: dict[str, list[Row]] = {}
        for row in rows:
            names = [cells[str(row.values["cell"])]] * (len(cells) > 1)
            names += [f"sample-{row.values['sample_index']}"] * several
            found.setdefault("/".join(names), []).append(row)
        return found

    def _shown(self, values: Mapping[str, Any]) -> Shown:
        sample = 0 if self.benchmark.images == 1 else int(values["sample_index"])
        return Shown(str(values["image_id"]), sample, prompt_of(self.benchmark, values))


def _folders_of_cells(rows: Sequence[Row]) -> dict[str, str]:
    """Name of a cell → that of its folder. Raises Refused where two cells would lie in one."""
    names = {cell: plain(cell) for cell in dict.fromkeys(str(row.values["cell"]) for row in rows)}
    counts = Counter(names.values())
    if doubled := [cell for cell, name in names.items() if counts[name] > 1]:
        raise Refused(
            f"the cells {' and '.join(map(visible, doubled))} would be one folder, as a folder's name holds letters, "
            f"digits and '=,+-._' only. Export one after the other, each by a selection, such as batchgen select OUT "
            f"\"cell = '{visible(doubled[0])}'\" --name one."
        )
    return names


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
        prompt=asked(values),
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
