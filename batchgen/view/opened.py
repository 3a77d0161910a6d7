"""Runs as they were when they were read, and what the page may ask of them: texts by name in, values for JSON out.

Knows no HTTP. All that it says is of one reading: who reads the runs anew, makes another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchgen.errors import Refused
from batchgen.run.directory import Run
from batchgen.view import shown
from batchgen.view.asked import Asked, number
from batchgen.view.choice import Choices
from batchgen.view.held import Held
from batchgen.view.lines import NONE, Lines, lines
from batchgen.view.marks import Marks, select
from batchgen.view.pictures import Album
from batchgen.view.table import Table

Values = Mapping[str, str]
MOST_ROWS = 500  # in one answer


class Opened:
    """runs: with their labels. edition: of this reading. blur_above: of scores of NSFW, None for no blur."""

    def __init__(
        self, runs: Sequence[tuple[str, Run]], marks: Marks, edition: int, blur_above: float | None = None
    ) -> None:
        self.table, self.marks, self.edition, self.blur_above = Table(runs), marks, edition, blur_above
        self.nsfw = shown.nsfw_column(list(self.table.types))
        self._choices = Choices(self.table, marks)
        self._lines = Held[Lines](100_000_000, lambda found: found.nbytes)
        self._album = Album([run for _, run in runs])

    def about(self) -> dict[str, Any]:
        return {
            "edition": self.edition,
            "runs": [label for label, _ in self.table.runs],
            "rows": len(self.table),
            "planned": sum(run.planned for _, run in self.table.runs),
            "columns": shown.columns(self.table),
            "nsfw": self.nsfw,
            "blur_above": self.blur_above,
            "marks": self.marks.counts(),
        }

    def rows(self, values: Values) -> dict[str, Any]:
        asked = self._asked(values)
        numbers = self._choices.numbers(asked)
        window = numbers[slice(*_window(values))]
        column = asked.order or asked.group
        return {"count": len(numbers), "rows": shown.rows(self.table, self.marks, window, column, self.nsfw)}

    def groups(self, values: Values) -> dict[str, Any]:
        found = self._choices.groups(self._asked(values))
        return {"groups": [{"value": shown.plain(group.value), "count": group.count} for group in found]}

    def lines(self, values: Values) -> dict[str, Any]:
        asked = self._asked(values)
        numbers = self._choices.numbers(asked)
        if asked.marked:  # marks change
            found = lines(self.table, numbers)
        else:
            found = self._lines.get(asked, lambda: lines(self.table, numbers))
        window = found.numbers[slice(*_window(values))]
        flat = window[window != NONE]
        rows = dict(zip(flat.tolist(), shown.rows(self.table, self.marks, flat, "", self.nsfw), strict=True))
        return {
            "count": len(found.numbers),
            "images": len(numbers),
            "columns": found.columns,
            "rows": [[rows.get(int(one)) for one in line] for line in window],
        }

    def details(self, values: Values) -> dict[str, Any]:
        return shown.details(self.table, number(values, "number", len(self.table)))

    def mark(self, values: Values) -> dict[str, Any]:
        at = number(values, "number", len(self.table))
        row = self.table.take(np.array([at]), ["image_id", "status"]).to_pylist()[0]
        if row["status"] != "ok":
            raise Refused("this image failed: there is no picture to keep.")
        label, _ = self.table.runs[self.table.run_of(at)]
        self.marks.put(label, row["image_id"], values.get("mark", ""))
        return {"marks": self.marks.counts()}

    def select(self, values: Values) -> dict[str, Any]:
        asked = self._asked(values)
        chosen = self._choices.numbers(asked) if values.get("what") == "shown" else None
        return {"saved": select(self.table, self.marks, values.get("name", ""), chosen, asked.words)}

    def picture(self, key: str, shard: int, image_id: str, small: bool) -> bytes:
        """Raises Refused where there is no such picture, Infrastructure where it cannot be read."""
        if key not in self.table.keys:
            raise Refused("there is no such picture.")
        run = self.table.keys.index(key)
        try:
            return (self._album.small if small else self._album.stored)(run, shard, image_id)
        except ValueError as error:
            raise Refused(f"{image_id}: {error}") from error

    def _asked(self, values: Values) -> Asked:
        return Asked.of(values, self.table.types, len(self.table))


def _window(values: Values) -> tuple[int, int]:
    offset, limit = number(values, "offset", 10**12), number(values, "limit", MOST_ROWS + 1)
    return offset, offset + limit
