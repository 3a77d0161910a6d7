"""Whether two tables say the same, column by column. Knows no files and no meaning of a column."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa


def differing(here: pa.Table, there: pa.Table, names: Iterable[str]) -> list[str]:
    """Those of the names whose columns differ, or that one of the tables lacks."""
    return [name for name in names if not _same(here, there, name)]


def _same(here: pa.Table, there: pa.Table, name: str) -> bool:
    if not (name in here.column_names and name in there.column_names):
        return False
    mine, theirs = here[name], there[name]
    # Arrow takes no NaN for equal to another; Python's text for them is the same.
    return bool(mine.equals(theirs)) or repr(mine.to_pylist()) == repr(theirs.to_pylist())
