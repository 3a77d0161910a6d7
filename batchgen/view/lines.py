"""Rows side by side: a line for each prompt and seed, a column for each cell of each run. Knows a table and no page.

Rows belong together by the prompt as it stands in the user's table and by seed, as in a comparison. A prompt that the
table repeats has a line for each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from batchgen.evaluate.aligned import ONE_CELL
from batchgen.evaluate.asked import OWN, RENDERED, asked_of_all
from batchgen.view.table import Numbers, Table

NONE = -1  # instead of the number of a row, where a cell has none


@dataclass(frozen=True, slots=True)
class Lines:
    """columns: names of run and cell. numbers: of rows, (lines, columns)."""

    columns: tuple[str, ...]
    numbers: npt.NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return self.numbers.nbytes


def lines(table: Table, numbers: Numbers) -> Lines:
    """In the order of the first row of each line."""
    if not len(numbers):
        return Lines((), np.empty((0, 0), np.int64))
    names = [name for name in ("cell", "seed", RENDERED, OWN) if name in table.types]
    at = pa.array(numbers)
    rows = pd.DataFrame({name: table.column(name).take(at).to_pandas() for name in names})
    rows["prompt"] = asked_of_all(rows)
    ends = [table.span(place)[1] for place in range(len(table.runs))]
    rows["run"] = np.searchsorted(ends, numbers, side="right")
    rows["column"], columns = _columns(table, rows[["run", "cell"]].fillna(""))
    key = rows.groupby(["prompt", "seed"], sort=False, dropna=False).ngroup()
    again = rows.groupby([key, "column"], sort=False).cumcount()
    line = pd.DataFrame({"key": key, "again": again}).groupby(["key", "again"], sort=False).ngroup()
    found = np.full((int(line.max()) + 1, len(columns)), NONE, np.int64)
    found[line, rows["column"]] = numbers
    return Lines(tuple(columns), found)


def _columns(table: Table, rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The column of each row, and the names of the columns: runs as they were given, cells as their jobs have them."""
    number = rows.groupby(["run", "cell"], sort=False).ngroup()
    pairs = [(int(run), str(cell)) for run, cell in rows.drop_duplicates().itertuples(index=False)]
    wanted = [[*run.cells, ONE_CELL] for _, run in table.runs]
    places = [(run, wanted[run].index(cell) if cell in wanted[run] else len(wanted[run]), cell) for run, cell in pairs]
    order = sorted(range(len(pairs)), key=places.__getitem__)
    several = len(table.runs) > 1
    names = [_name(table.runs[pairs[at][0]][0] if several else "", pairs[at][1]) for at in order]
    return np.argsort(order)[number.to_numpy()], names


def _name(run: str, cell: str) -> str:
    return cell if not run else run if cell in ("", ONE_CELL) else f"{run}: {cell}"
