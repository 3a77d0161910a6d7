"""A fair sample of a run's images, in the order in which a sheet shows them. The same run gives the same sample.

Cells of a sweep stand side by side, the same prompt and seed in a line; other columns part a sheet into groups. Knows
the metadata table, of which a few columns are held (about 450 bytes an image), and opens no picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from batchgen import schema
from batchgen.errors import Refused
from batchgen.look.results import Results
from batchgen.run.directory import Run
from batchgen.words import nearest, visible

COLUMNS = 6  # of a sheet without cells
MOST_CELLS = 10  # side by side; more of them begin another block below
SHOWN = ["image_id", "seed", "file", "error_code"]
HELD = (*SHOWN, "prompt_id", "sample_index", "cell", "height", "width", "status")
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Place:
    """One image of a sheet. file: where its picture lies; None: it failed, error_code says how."""

    image_id: str
    seed: int | None
    file: str | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of images beneath a title, in columns that may have headings. None: there is no such image."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[tuple[Place | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """blocks: from top to bottom. images: how many pictures they show. note: what is left out, for people, or ""."""

    blocks: tuple[Block, ...] = field(default=())
    note: str = ""

    @property
    def places(self) -> list[Place]:
        return [place for block in self.blocks for line in block.lines for place in line if place is not None]

    @property
    def images(self) -> int:
        return sum(place.file is not None for place in self.places)


def choose(run: Run, most: int, by: str | None = None) -> Sample:
    """At most so many images. by: a column of the metadata; without it the cells, where there are several.

    Raises Refused where there is no such column.
    """
    by = by or ("cell" if len(run.cells) > 1 else None)
    if (table := _table(run, by)) is None:
        return Sample()
    rows = table.drop_columns([name for name in SHOWN if name != by]).to_pandas()
    if by == "cell":
        return _by_cells(table, rows[rows["cell"].isin(run.cells)], run.cells, most)
    rows = rows[rows["status"] == "ok"]
    if by is None:
        return Sample(_blocks(table, "", rows.iloc[_spread_by_size(rows, most)])) if len(rows) else Sample()
    return _by_groups(table, rows, by, most)


def _table(run: Run, by: str | None) -> pa.Table | None:
    """The held columns of every row, texts that repeat held once; None where nothing is known of any."""
    wanted = [*HELD, *([by] if by is not None and by not in HELD else [])]
    if by is not None and by not in (known := columns_of(run)):
        raise Refused(f"--group-by {visible(by)}: is no column of this run.{nearest(by, map(visible, known))}")
    tables = [table.select(wanted) for table in Results(run.store.url).tables(wanted)]
    if not tables:
        return None
    joined = pa.concat_tables(tables, promote_options="permissive")
    repeated = [name for name in ("prompt_id", "cell", "status", "error_code", "file") if name in wanted]
    encoded = [joined[name].dictionary_encode() if name in repeated else joined[name] for name in wanted]
    return pa.table(encoded, names=wanted).unify_dictionaries()


def columns_of(run: Run) -> list[str]:
    """Names of the columns of its metadata, those of the table included."""
    planned = run.plan_schema()
    own = schema.extras_of(planned) if planned is not None else []
    return list(dict.fromkeys(one.name for one in [*schema.metadata_schema(), *schema.SOURCE_FIELDS, *own]))


def _by_cells(table: pa.Table, rows: pd.DataFrame, cells: Sequence[str], most: int) -> Sample:
    """The same prompts and seeds in every cell."""
    shown = [cells[at] for at in spread(len(cells), most)]
    order = rows["prompt_id"].cat.codes.to_numpy(np.int64) * (2**32) + rows["sample_index"].to_numpy(np.int64)
    keys, first = np.unique(order, return_index=True)
    keys = keys[np.argsort(first, kind="stable")]
    keys = keys[spread(len(keys), max(most // max(len(shown), 1), 1))]
    chosen = rows[np.isin(order, keys)]
    there = {
        (key, cell): place
        for key, cell, place in zip(order[np.isin(order, keys)], chosen["cell"], _places(table, chosen), strict=True)
    }
    parts = [shown[at : at + MOST_CELLS] for at in range(0, len(shown), MOST_CELLS)]
    blocks = [
        Block("", tuple(part), tuple(tuple(there.get((key, cell)) for cell in part) for key in keys)) for part in parts
    ]
    return Sample(tuple(blocks), _left_out(len(shown), len(cells), "cells"))


def _by_groups(table: pa.Table, rows: pd.DataFrame, by: str, most: int) -> Sample:
    """A block for each value of a column."""
    values = rows[by].map(_said)
    names = list(values.unique())
    try:
        names = [_said(value) for value in sorted(rows[by].dropna().unique())] + (["null"] if "null" in names else [])
    except TypeError:  # values without an order, such as lists
        names = sorted(names)
    shown = [names[at] for at in spread(len(names), most)]
    blocks = list[Block]()
    for name in shown:
        group = rows[(values == name).to_numpy()]
        taken = group.iloc[spread(len(group), max(most // len(shown), 1))]
        blocks += _blocks(table, f"{by}: {visible(name)} ({len(group)} images)", taken)
    return Sample(tuple(blocks), _left_out(len(shown), len(names), f"values of {by}"))


def _said(value: Any) -> str:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "null" if missing else f"{value:g}" if isinstance(value, float) else str(value)


def _blocks(table: pa.Table, title: str, rows: pd.DataFrame) -> tuple[Block, ...]:
    places = _places(table, rows)
    lines = [tuple(places[at : at + COLUMNS]) for at in range(0, len(places), COLUMNS)]
    return (Block(title, (), tuple(lines)),)


def _places(table: pa.Table, rows: pd.DataFrame) -> list[Place]:
    """Of some rows of the table, which are numbered as there."""
    shown = table.select(SHOWN).take(pa.array(rows.index.to_numpy(), pa.int64())).to_pylist()
    return [Place(row["image_id"], row["seed"], row["file"], row["error_code"]) for row in shown]


def _spread_by_size(rows: pd.DataFrame, most: int) -> Rows:
    """Numbers of rows: of every size its share, at least one; of one size spread over the order of the plan."""
    sizes = rows.groupby(["height", "width"], sort=True).indices
    groups = [np.sort(at) for at in sizes.values()]
    groups = [groups[at] for at in spread(len(groups), most)]
    chosen = [group[spread(len(group), count)] for group, count in zip(groups, shares(groups, most), strict=True)]
    found: Rows = np.concatenate(chosen)
    return found


def shares(groups: Sequence[Sequence[Any] | Rows], most: int) -> list[int]:
    """How many of each group make up `most`: at least one, and by the groups' sizes."""
    sizes = np.array([len(group) for group in groups])
    most = min(most, int(sizes.sum()))
    counts = np.maximum(np.floor(sizes * most / sizes.sum()).astype(int), 1)
    while counts.sum() > most:
        counts[np.argmax(counts)] -= 1
    while counts.sum() < most:  # where the most are left out for each that is shown
        counts[np.argmax(np.where(counts < sizes, sizes / counts, 0))] += 1
    return [int(count) for count in counts]


def spread(count: int, most: int) -> Rows:
    """Numbers from 0 to count, at equal distances; all of them, if they are no more than `most`."""
    if count <= most:
        return np.arange(count)
    found: Rows = ((np.arange(most) + 0.5) * count / most).astype(np.int64)
    return found


def _left_out(shown: int, there: int, what: str) -> str:
    return f"{shown} of {there} {what}" if shown < there else ""
