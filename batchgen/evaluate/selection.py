"""Selections: images of a run that an expression over their metadata and scores chooses, kept by name.

An expression is SQL of DuckDB, such as `score_clip > 26 and suspect is null and not overflow_t5`. It sees one table,
`images`: the columns of metadata/ and, of each scorer, `score_<name>`. A selection is created once and deletes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from batchgen.errors import Refused
from batchgen.evaluate import expression
from batchgen.evaluate.scores import NAME, read_scores
from batchgen.look.results import Results
from batchgen.run.directory import Run
from batchgen.run.hashes import BITS, bands, numbers
from batchgen.words import visible

SELECTIONS = "selections"
SCORE = "score_"  # how the column of a scorer begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """name: of the saved file. where, dedupe: what chose. planned: images of the run; chosen: of the expression;
    images: what is left without near duplicates."""

    name: str
    where: str
    dedupe: int | None
    planned: int
    chosen: int
    images: int
    image_ids: tuple[str, ...]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def select(run: Run, where: str, name: str, dedupe: int | None = None) -> Selection:
    """Choose images and keep the choice as `name`. dedupe: of pictures whose hashes differ in at most so many bits,
    the first in the order of the plan stays.

    Raises Refused for an expression that is none, and where another selection has that name.
    """
    refuse_name(name)
    rows = table_of(run)
    chosen = rows[rows["image_id"].isin(matching(rows, where)) & (rows["status"] == "ok")]
    if chosen.empty:
        raise Refused(f"{visible(where)!r} chooses none of the {len(rows)} images of {run.store}.")
    kept = chosen if dedupe is None else chosen[~near_duplicates(chosen["phash"], dedupe)]
    selection = Selection(
        name=name,
        where=where,
        dedupe=dedupe,
        planned=len(rows),
        chosen=len(chosen),
        images=len(kept),
        image_ids=tuple(kept["image_id"]),
    )
    save(run, selection)
    return selection


def save(run: Run, selection: Selection) -> None:
    """Keep a choice by its name. Raises Refused where that is none, or is another selection's."""
    refuse_name(selection.name)
    if run.store.create(_path(selection.name), selection.to_json()):
        return
    there = read_selection(run, selection.name)
    if there != selection:
        raise Refused(
            f"{run.store}: has another selection {there.name} already ({there.images} images where "
            f"{visible(there.where)}). Give this one another name: --name {there.name}-2"
        )


def refuse_name(name: str) -> None:
    """Raises Refused for what cannot be the name of a selection."""
    if not NAME.fullmatch(name):
        raise Refused(f"--name {name!r}: use small letters, digits, '-', '_' and '.'.")


def read_selection(run: Run, name: str) -> Selection:
    """Raises Refused where there is none of that name."""
    try:
        values = json.loads(run.store.read(_path(name)))
    except FileNotFoundError as error:
        there = [entry.path.split("/")[-1].removesuffix(".json") for entry in run.store.list(SELECTIONS)]
        raise Refused(
            f"{run.store}: has no selection {name}; there are {', '.join(there) or 'none'}. "
            f'Make it: batchgen select {run.store} "..." --name {name}'
        ) from error
    return Selection(**values | {"image_ids": tuple(values["image_ids"])})


def selected(runs: Sequence[Run], name: str) -> set[str]:
    """image_ids of the selections of this name, of all runs."""
    return {image_id for run in runs for image_id in read_selection(run, name).image_ids}


def bits_of(dedupe: str | None) -> int | None:
    """4 of 'phash:4'. Raises Refused for anything else."""
    if dedupe is None:
        return None
    kind, _, bits = dedupe.partition(":")
    if kind != "phash" or not bits.isdecimal():
        raise Refused(f"--dedupe {dedupe!r}: write phash: and the bits in which hashes may differ, such as phash:4.")
    if int(bits) > BITS // 4:
        raise Refused(f"--dedupe {dedupe}: write 0 to {BITS // 4} bits of {BITS}.")
    return int(bits)


def table_of(run: Run) -> pd.DataFrame:
    """What an expression sees: metadata with a column for each scorer."""
    rows = Results(run.store.url).to_pandas()
    for name, scores in read_scores(run.store).items():
        column = scores.table.set_index("image_id")["score"].rename(column_of(name))
        rows = rows.join(column, on="image_id")
    return rows


def column_of(scorer: str) -> str:
    """A scorer's column: what is no letter or digit of its name becomes '_', so that it needs no quotes."""
    return SCORE + "".join(letter if letter.isalnum() else "_" for letter in scorer)


def matching(rows: pd.DataFrame, where: str) -> set[str]:
    """image_ids of the rows for which the expression is true. Raises Refused for one that is none."""
    with expression.matching(pa.Table.from_pandas(rows, preserve_index=False), where) as found:
        return {image_id for (image_id,) in found.project("image_id").fetchall()}


def near_duplicates(hashes: pd.Series[Any], bits: int) -> npt.NDArray[np.bool_]:
    """Which of these pictures are like one before them that stays: at most `bits` of 64 bits differ.

    Two hashes that differ in so few bits agree in at least one of bits + 1 bands, so only those are compared.
    """
    values = numbers(hashes)
    dropped = np.zeros(len(values), np.bool_)
    parts = bands(values, bits + 1)
    kept: list[dict[int, list[int]]] = [{} for _ in parts]
    for at in range(len(values)):
        keys = [int(part[at]) for part in parts]
        near = np.unique(np.array([i for seen, key in zip(kept, keys, strict=True) for i in seen.get(key, ())], int))
        if len(near) and int(np.bitwise_count(values[near] ^ values[at]).min()) <= bits:
            dropped[at] = True
            continue
        for seen, key in zip(kept, keys, strict=True):
            seen.setdefault(key, []).append(at)
    return dropped


def _path(name: str) -> str:
    return f"{SELECTIONS}/{name}.json"
