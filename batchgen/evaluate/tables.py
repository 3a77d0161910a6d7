"""A comparison as tables for people: Markdown, and LaTeX with booktabs. Names are escaped, whatever is in them.

Of each scorer: cells with value, intervals and categories, and differences with their tests. Tests in categories are
shown where they decide something; the JSON of `document` has all. Knows no statistics and no files.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from batchgen.evaluate.compared import Comparison, Difference, Ranking, Standing
from batchgen.evaluate.intervals import Interval
from batchgen.words import legible, visible

MOST_CATEGORIES = 12  # columns of a table that fits a page
ARROWS = {True: "higher is better", False: "lower is better"}
CHOSEN = "the leader's value was chosen on these data, and is also luck: score it again on other prompts"


@dataclass(frozen=True, slots=True)
class Table:
    """title, notes: sentences. strong: rows that stand out, by number."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    strong: frozenset[int] = frozenset()


def markdown(comparison: Comparison) -> str:
    return "\n".join(_markdown(table) for table in tables(comparison)) + _left_out(comparison, _plain, "- ")


def latex(comparison: Comparison) -> str:
    """To be put into a document that uses booktabs."""
    return "\n".join(_latex(table) for table in tables(comparison)) + _left_out(comparison, _tex, "% ")


def tables(comparison: Comparison) -> Iterator[Table]:
    for ranking in comparison.rankings:
        digits = _digits(ranking)
        yield _standings(ranking, digits)
        if ranking.differences:
            notes = [f"Family: {ranking.family}, corrected together (Holm). {_best(ranking)}"]
            yield _differences(f"{ranking.about.scorer}: differences", ranking.differences, digits, notes)
        if ranking.interactions:
            notes = ["What one setting gains at the last value of the other, less what it gains at the first."]
            yield _differences(f"{ranking.about.scorer}: interaction", ranking.interactions, digits, notes)
        if ranking.by_category:
            decided = [one for one in ranking.by_category if one.decided]
            notes = [f"Family: {ranking.categories_family}, corrected together (Holm). Decided: {len(decided)}."]
            yield _differences(f"{ranking.about.scorer}: differences in categories", decided, digits, notes)


def _standings(ranking: Ranking, digits: int) -> Table:
    first = ranking.standings[0]
    names = [*first.categories][:MOST_CATEGORIES]
    seeds = first.seeds is not None
    bounded = any(one.bounds for one in ranking.standings)
    header = ["", ranking.total, _heading(first.interval, "95 %")]
    header += [first.seeds.name] if first.seeds else []
    header += ["prompts"] + (["if missing were wrong, right"] if bounded else []) + names
    rows = []
    for one in ranking.standings:
        row = [one.cell + (" †" if one.chosen_here else ""), _number(one.value, digits), _range(one.interval, digits)]
        row += [_range(one.seeds, digits)] if seeds else []
        row += [f"{one.n}/{one.expected}"] + ([_bounds(one, digits)] if bounded else [])
        rows.append([*row, *(_number(one.categories[name].value, digits) for name in names)])
    of = f"{ranking.about.scorer} {ranking.about.version}".strip()
    notes = [f"{of}: {ranking.formula}, {ARROWS[ranking.about.higher_is_better]}; {first.images} images a cell."]
    if ranking.leader:
        notes.append(f"† {CHOSEN}.")
    strong = frozenset(at for at, one in enumerate(ranking.standings) if one.among_best)
    return Table(ranking.about.scorer, header, rows, notes, strong)


def _differences(title: str, differences: Sequence[Difference], digits: int, notes: Sequence[str]) -> Table:
    with_category = any(one.category is not None for one in differences)
    heading = _heading(differences[0].interval, "95 %") if differences else "95 %"
    header = [*(["category"] if with_category else []), "difference", "value", heading]
    header += ["p", "p (Holm)", "decided", "could have shown", "test"]
    rows = [
        [
            *([str(one.category)] if with_category else []),
            f"{one.cell} − {one.against}",
            _number(one.value, digits, sign=True),
            _range(one.interval, digits),
            f"{one.p:.4f}",
            f"{one.p_holm:.4f}",
            "yes" if one.decided else "no",
            "" if one.detectable is None else _number(one.detectable, digits),
            one.test,
        ]
        for one in differences
    ]
    decided = frozenset(at for at, one in enumerate(differences) if one.decided)
    return Table(title, header, rows, notes, decided)


def _best(ranking: Ranking) -> str:
    if len(ranking.best) == 1:
        return f"{ranking.leader} is told from all others."
    others = ", ".join(one for one in ranking.best if one != ranking.leader)
    return f"Not told from {ranking.leader}, which leads: {others}."


def _digits(ranking: Ranking) -> int:
    """Decimals that show two digits of the smallest standard error."""
    errors = [one.stderr for one in (*ranking.standings, *ranking.differences) if one.stderr]
    return min(6, max(0, 1 - math.floor(math.log10(min(errors))))) if errors else 3


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _range(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _bounds(one: Standing, digits: int) -> str:
    return "" if one.bounds is None else f"{one.bounds[0]:.{digits}f}, {one.bounds[1]:.{digits}f}"


def _heading(interval: Interval | None, level: str) -> str:
    return f"{level}, {interval.name}" if interval else level


def _left_out(comparison: Comparison, escape: Callable[[str], str], begin: str) -> str:
    return "".join(f"\n{begin}{escape(line)}" for line in comparison.left_out) + "\n" * bool(comparison.left_out)


def _markdown(table: Table) -> str:
    rows = [
        [f"**{cell}**" if at in table.strong and cell and not column else cell for column, cell in enumerate(row)]
        for at, row in enumerate([[_plain(cell) for cell in row] for row in table.rows])
    ]
    lines = [[_plain(cell) for cell in table.header], ["---"] * len(table.header), *rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"### {_plain(table.title)}\n\n"
        + (f"{body}\n\n" if rows else "")
        + "".join(f"{_plain(note)}\n\n" for note in table.notes)
    )


def _latex(table: Table) -> str:
    rows = [
        [
            rf"\textbf{{{cell}}}" if at in table.strong and cell and not column else cell
            for column, cell in enumerate(row)
        ]
        for at, row in enumerate([[_tex(cell) for cell in row] for row in table.rows])
    ]
    notes = "".join(f"% {_tex(note)}\n" for note in table.notes)
    if not rows:
        return f"% {_tex(table.title)}\n{notes}"
    head = " & ".join(_tex(cell) for cell in table.header)
    body = "".join(" & ".join(row) + " \\\\\n" for row in rows)
    columns = "l" + "r" * (len(table.header) - 1)
    return (
        f"% {_tex(table.title)}\n{notes}\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head} \\\\\n\\midrule\n"
        f"{body}\\bottomrule\n\\end{{tabular}}\n"
    )


_MARKS = re.compile(r"([\\`*_|~#])")
_ENTITIES = {one: f"&#{ord(one)};" for one in "[]$"}  # with a backslash they begin formulas in some readers
_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "−": "$-$", "†": r"\dag{}", '"': r"\textquotedbl{}",
} | {one: f"\\{one}" for one in "&%$#_{}"}  # fmt: skip


def _plain(text: str) -> str:
    """One line of text that Markdown shows as it is."""
    marked = _MARKS.sub(r"\\\1", html.escape(visible(legible(text)), quote=False))
    return "".join(_ENTITIES.get(one, one) for one in marked)


def _tex(text: str) -> str:
    return "".join(_TEX.get(one, one) for one in visible(legible(text)))
