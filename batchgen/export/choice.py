"""Which images of a run are asked for: by an expression, by a selection, and without near duplicates.

Says what cannot be asked of a run that still renders, because the answer would change. Knows no target.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, fields

import pandas as pd
import pyarrow as pa

from batchgen.errors import Refusals, Refused
from batchgen.evaluate.expression import is_of_one_row
from batchgen.evaluate.scores import read_scores, scorer_names
from batchgen.evaluate.selection import (
    SCORE,
    bits_of,
    column_of,
    matching,
    near_duplicates,
    read_selection,
    table_of,
)
from batchgen.finalize.metadata import metadata
from batchgen.run.directory import Run
from batchgen.words import visible

SHOWN = 5
SUSPECT, AT = "batchgen: suspect", "batchgen: at"  # of a table that is being sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """where: an expression of SQL. selection: a name. dedupe: 'phash:4'. All that are there hold together."""

    where: str | None = None
    selection: str | None = None
    dedupe: str | None = None

    def said(self) -> list[str]:
        """Names of what is asked."""
        return [one.name for one in fields(self) if getattr(self, one.name) is not None]

    def refuse_unfit(self, run: Run) -> None:
        """Raises Refused for what is no number of bits, and no selection of this run."""
        bits_of(self.dedupe)
        if self.selection is not None:
            read_selection(run, self.selection)

    def refuse_unfinished(self, run: Run, mix: bool) -> None:
        """Raises Refused for what needs all rows. run: one that still renders."""
        refusals = Refusals()
        then = f"Finish the run {run.store} first, or leave it out."
        for name in [name for name, asked in (("--dedupe", self.dedupe), ("--mix-buckets", mix)) if asked]:
            refusals.add(Refused(f"{name}: needs all images, and some are not rendered yet. {then}"))
        if self.where is not None and not is_of_one_row(self.where):
            refusals.add(
                Refused(f"--where {visible(self.where)!r}: looks at other rows too, and some are not there yet. {then}")
            )
        refusals.raise_any()

    def among(self, run: Run, shards: Collection[int], complete: bool) -> Chosen:
        """shards: those to look at, in a run that is not complete.

        Raises Refused for an expression that is none, and where a selection has images that the run has not.
        """
        named = set(read_selection(run, self.selection).image_ids) if self.selection is not None else None
        if self.where is None and self.dedupe is None and (named is None or not complete):
            return Chosen(named)
        rows = table_of(run) if complete else _rows(run, shards)
        if complete and named and (unknown := sorted(named - set(rows["image_id"]))):
            raise Refused(f"{run.store}: has no image {', '.join(unknown[:SHOWN])} of the selection ({len(unknown)}).")
        kept = rows[rows["status"] == "ok"]
        if named is not None:
            kept = kept[kept["image_id"].isin(named)]
        if self.where is not None:
            _refuse_scores(rows, self.where, complete)
            kept = kept[kept["image_id"].isin(matching(rows, self.where))]
        bits = bits_of(self.dedupe)
        if bits is None:
            return Chosen(set(kept["image_id"]))
        ranked, rule = _ranked(run, kept)
        alike = near_duplicates(ranked["phash"], bits)
        return Chosen(set(ranked["image_id"][~alike]), f"{int(alike.sum())} near duplicates are left out: {rule}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """image_ids: None where all are. note: on near duplicates, for people."""

    image_ids: set[str] | None
    note: str | None = None


def _ranked(run: Run, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Those first that stay, and why, for people. With several scorers it is not known which one counts."""
    rule = "of those that are alike the one stays that is not suspect,"
    names = scorer_names(run.store)
    if len(names) != 1:
        return best_first(rows), f"{rule} then the first"
    higher, score = read_scores(run.store)[names[0]].about.higher_is_better, column_of(names[0])
    best = f"{'highest' if higher else 'lowest'} {score}"
    return best_first(rows, score, higher), f"{rule} then the {best}, then the first"


def best_first(rows: pd.DataFrame, score: str | None = None, higher: bool = True) -> pd.DataFrame:
    """What is not suspect, then by a column of scores, then by the plan. What has no score comes after what has."""
    ranked = rows.copy(deep=False)
    ranked[SUSPECT], ranked[AT] = rows["suspect"].notna(), range(len(rows))
    scores, ways = ([score], [not higher]) if score else ([], [])
    return rows.loc[ranked.sort_values([SUSPECT, *scores, AT], ascending=[True, *ways, True]).index]


def _refuse_scores(rows: pd.DataFrame, where: str, complete: bool) -> None:
    """Of a run that still renders no scores are seen: they come after the images."""
    asked = sorted(set(re.findall(rf"\b{SCORE}\w+", where)) - set(map(str, rows.columns)))
    if asked and not complete:
        raise Refused(
            f"--where {visible(where)!r}: {', '.join(asked)} can be asked for once all images are rendered. "
            "Finish the run first, or leave it out."
        )


def _rows(run: Run, shards: Collection[int]) -> pd.DataFrame:
    stored = run.stored()
    sizes = {number: stored[number] for number in shards}
    frame: pd.DataFrame = pa.concat_tables(metadata(run, set(sizes), sizes), promote_options="permissive").to_pandas()
    return frame
