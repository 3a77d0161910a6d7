"""The tables of a comparison's page, as texts in rows: standings, differences, categories, cut prompts, provenance.

Rounds and words; makes no number of its own but the means of cut and whole prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from batchgen.evaluate.compared import Comparison, Difference, Ranking
from batchgen.evaluate.intervals import Interval

CUT = ("truncated_clip_l", "truncated_clip_g", "truncated_t5")


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[str, ...]
    leads: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    names: tuple[str, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def tables(
    comparison: Comparison, facts: Sequence[pd.DataFrame], scores: Mapping[int, Mapping[str, Mapping[str, float]]]
) -> Iterator[Table]:
    """facts: of each run by image_id. scores: of each run, scorer → image_id → score."""
    for ranking in comparison.rankings:
        yield _standings(ranking)
        if ranking.differences:
            yield _differences(ranking)
        if any(len(one.categories) > 1 for one in ranking.standings):
            yield _categories(ranking)
    if (cut := _cut(comparison, facts, scores)).rows:
        yield cut


def provenance(comparison: Comparison, command: str) -> list[tuple[str, str]]:
    found = [("made again by", command)]
    for cell in comparison.cells:
        said = f"{cell.model}, weights {cell.model_digest[:12]}, run {cell.fingerprint[:12]}"
        settings = ", ".join(f"{name} {value}" for name, value in cell.settings.items())
        versions = ", ".join(f"{name} {value}" for name, value in cell.versions.items())
        found.append((cell.name, f"{said}; {settings}; {versions}"))
    for ranking in comparison.rankings:
        about = ranking.about
        weights = f", weights {about.weights_sha256[:12]}" if about.weights_sha256 else ""
        source = f", from {about.source}" if about.source else ""
        settings = "".join(f", {name} {value}" for name, value in about.settings.items())
        found.append((f"scorer {about.scorer}", f"version {about.version}{weights}{source}{settings}"))
    licences = comparison.aligned.prompts[["benchmark", "benchmark_sha256", "benchmark_licence"]].drop_duplicates()
    for benchmark, sha256, licence in licences.dropna(subset=["benchmark"]).itertuples(index=False):
        found.append((f"benchmark {benchmark}", f"prompts {str(sha256)[:12]}, licence {licence}"))
    return found


def _standings(ranking: Ranking) -> Table:
    names = ("", "mean", "95 %", "95 %, new seeds on these prompts", "prompts", "images", "without a score", "bounds")
    rows = [
        Row(
            (
                one.cell,
                number(one.value) + (" (chosen on these data)" if one.chosen_here else ""),
                ends(one.interval),
                ends(one.seeds),
                f"{one.n} of {one.expected}",
                str(one.images),
                str(one.unscored),
                "" if one.bounds is None else f"{number(one.bounds[0])} to {number(one.bounds[1])}",
            ),
            one.among_best,
        )
        for one in ranking.standings
    ]
    kinds = dict.fromkeys(f"{one.interval.name} ({one.interval.method})" for one in ranking.standings if one.interval)
    notes = [f"{ranking.total}: {ranking.formula}.", *(f"Intervals: {kind}." for kind in kinds)]
    if ranking.best:
        notes.append(f"Best: {', '.join(ranking.best)}. These cannot be told from the leader by these prompts.")
    if ranking.detectable is not None:
        notes.append(
            f"A difference of {number(ranking.detectable)} would have been seen in 80 of 100 such comparisons."
        )
    better = "" if ranking.about.higher_is_better else ", lower is better"
    return Table(f"{ranking.about.scorer}{better}: {ranking.total}", names, rows, notes)


def _differences(ranking: Ranking) -> Table:
    names = ("difference", "mean", "95 %", "p", "p, Holm", "", "could be seen")
    rows = [Row(_difference(one), one.decided) for one in ranking.differences]
    tests = dict.fromkeys(one.test for one in ranking.differences)
    return Table(f"{ranking.about.scorer}: differences", names, rows, [f"{ranking.family}: {', '.join(tests)}."])


def _difference(one: Difference) -> tuple[str, ...]:
    seen = "" if one.detectable is None else number(one.detectable)
    decided = "differ" if one.decided else "cannot be told apart"
    return f"{one.cell} − {one.against}", number(one.value), ends(one.interval), p(one.p), p(one.p_holm), decided, seen


def _categories(ranking: Ranking) -> Table:
    categories = list(dict.fromkeys(name for one in ranking.standings for name in one.categories))
    rows = []
    for one in ranking.standings:
        found = [one.categories.get(name) for name in categories]
        rows.append(Row((one.cell, *("" if c is None else f"{number(c.value)} ({ends(c.interval)})" for c in found))))
    seen = [one for one in ranking.by_category if one.decided]
    notes = [f"{ranking.categories_family}."]
    notes += [
        f"{one.category}: {one.cell} − {one.against} is {number(one.value)} ({ends(one.interval)})." for one in seen
    ]
    return Table(f"{ranking.about.scorer}: categories", ("", *categories), rows, notes)


def _cut(
    comparison: Comparison, facts: Sequence[pd.DataFrame], scores: Mapping[int, Mapping[str, Mapping[str, float]]]
) -> Table:
    """Images of prompts that an encoder read to the end, and of prompts that were cut."""
    rows = []
    for ranking in comparison.rankings:
        for at, cell in enumerate(comparison.cells):
            frame = facts[cell.number]
            given = pd.Series(scores[cell.number].get(ranking.about.scorer, {}), dtype=float)
            own = frame.loc[frame.index.intersection([one for one in comparison.aligned.ids[:, at] if one is not None])]
            is_cut = own[list(CUT)].notna().any(axis=1)
            values = given.reindex(own.index)
            cut, whole = values[is_cut].dropna(), values[~is_cut].dropna()
            if len(cut):
                means = [f"{number(part.mean())} (n {len(part)})" if len(part) else "none" for part in (cut, whole)]
                rows.append(Row((f"{cell.name}, {ranking.about.scorer}", *means)))
    note = "Other prompts, so that this is no effect of cutting alone: long prompts also ask for more."
    return Table("Prompts that an encoder did not read to the end", ("", "cut", "whole"), rows, [note])


def number(value: float) -> str:
    return f"{value:.4g}"


def ends(interval: Interval | None) -> str:
    return "unknown" if interval is None else f"{number(interval.low)} to {number(interval.high)}"


def p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"
