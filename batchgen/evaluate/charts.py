"""Charts of a comparison as marks of SVG: score against a setting, and score against cost with its Pareto front.

Knows numbers and places in pixels; text is escaped where it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from batchgen.evaluate.compared import Comparison, Ranking, Standing

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 28, 40
LINE = 13  # pixels
# Okabe and Ito, Color Universal Design, 2008: told apart by colour-blind people too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
GREY = "#8a8a90"


@dataclass(frozen=True, slots=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float
    colour: str


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    colour: str
    says: str


@dataclass(frozen=True, slots=True)
class Word:
    x: float
    y: float
    text: str
    anchor: str = "middle"


@dataclass(slots=True)
class Chart:
    title: str
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Point:
    """x: the setting or the cost. low, high: the interval of y. series: what is joined by a line."""

    x: float
    y: float
    low: float
    high: float
    name: str
    series: str


def charts(comparison: Comparison) -> list[Chart]:
    """Of each scorer, those that its cells have numbers for."""
    seconds = {cell.name: cell.seconds for cell in comparison.cells if cell.seconds is not None}
    found = []
    for ranking in comparison.rankings:
        for setting in numeric_settings(comparison):
            points = _by_setting(comparison, ranking, setting)
            if len({point.x for point in points}) > 1:
                found.append(_drawn(f"{ranking.about.scorer} against {setting}", points, setting))
        costs = [_point(one, seconds[one.cell], one.cell) for one in ranking.standings if one.cell in seconds]
        if len({point.x for point in costs}) > 1:
            chart = _drawn(f"{ranking.about.scorer} against seconds per image", costs, "device seconds per image")
            found.append(_with_front(chart, costs, ranking.about.higher_is_better))
    return found


def numeric_settings(comparison: Comparison) -> list[str]:
    """What cells vary as numbers."""
    names = dict.fromkeys(name for cell in comparison.cells for name in cell.swept)
    values = {name: {cell.swept.get(name) for cell in comparison.cells} - {None} for name in names}
    return [
        name
        for name, found in values.items()
        if len(found) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in found)
    ]


def pareto(points: Sequence[Point], higher_is_better: bool) -> list[Point]:
    """The points that no other beats in both: as cheap or cheaper, and better. By cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.x, -one.y if higher_is_better else one.y)):
        if not front or (point.y > front[-1].y if higher_is_better else point.y < front[-1].y):
            front.append(point)
    return front


def _by_setting(comparison: Comparison, ranking: Ranking, setting: str) -> list[Point]:
    standings = {one.cell: one for one in ranking.standings}
    several = len({cell.run for cell in comparison.cells}) > 1
    points = []
    for cell in comparison.cells:
        if cell.name in standings and setting in cell.swept:
            others = [f"{name} {value}" for name, value in cell.swept.items() if name != setting]
            series = ", ".join([*([cell.run] if several else []), *others])
            points.append(_point(standings[cell.name], float(cell.swept[setting]), series))
    return points


def _point(standing: Standing, x: float, series: str) -> Point:
    ends = standing.interval
    low, high = (ends.low, ends.high) if ends else (standing.value, standing.value)
    return Point(x, standing.value, low, high, standing.cell, series)


def _drawn(title: str, points: Sequence[Point], x_name: str) -> Chart:
    chart = Chart(title)
    across = _scale([point.x for point in points], LEFT, WIDTH - RIGHT)
    up = _scale([end for point in points for end in (point.low, point.high)], HEIGHT - BOTTOM, TOP)
    _axes(chart, points, across, up, x_name)
    names = [*dict.fromkeys(point.series for point in points)]
    ends = list[Word]()
    for at, series in enumerate(names):
        colour = COLOURS[at % len(COLOURS)]
        line = sorted((point for point in points if point.series == series), key=lambda point: point.x)
        for one, two in pairwise(line):
            chart.lines.append(Line(across(one.x), up(one.y), across(two.x), up(two.y), colour))
        for point in line:
            chart.lines.append(Line(across(point.x), up(point.low), across(point.x), up(point.high), colour))
            says = f"{point.name}: {point.y:.4g} ({point.low:.4g} to {point.high:.4g}) at {point.x:g}"
            chart.dots.append(Dot(across(point.x), up(point.y), colour, says))
        if 1 < len(names) <= len(COLOURS) and len(line) > 1:
            ends.append(Word(across(line[-1].x) - 8, up(line[-1].y) - 8, series, "end"))
    chart.words += _apart(ends)
    return chart


def _apart(words: Sequence[Word]) -> list[Word]:
    """From the top, each at least a line below the one before."""
    found: list[Word] = []
    for word in sorted(words, key=lambda one: one.y):
        lowest = found[-1].y + LINE if found else word.y
        found.append(replace(word, y=max(word.y, lowest)))
    return found


def _with_front(chart: Chart, points: Sequence[Point], higher_is_better: bool) -> Chart:
    across = _scale([point.x for point in points], LEFT, WIDTH - RIGHT)
    up = _scale([end for point in points for end in (point.low, point.high)], HEIGHT - BOTTOM, TOP)
    front = pareto(points, higher_is_better)
    for one, two in pairwise(front):
        chart.lines.append(Line(across(one.x), up(one.y), across(two.x), up(two.y), GREY))
    ends = [(point, "end" if across(point.x) > WIDTH / 2 else "start") for point in front]
    chart.words += _apart([Word(across(point.x), up(point.y) - 8, point.name, anchor) for point, anchor in ends])
    return chart


def _axes(
    chart: Chart,
    points: Sequence[Point],
    across: Callable[[float], float],
    up: Callable[[float], float],
    x_name: str,
) -> None:
    bottom = HEIGHT - BOTTOM
    chart.lines += [Line(LEFT, bottom, WIDTH - RIGHT, bottom, GREY), Line(LEFT, TOP, LEFT, bottom, GREY)]
    xs = sorted({point.x for point in points})
    shown = xs if len(xs) <= 6 else [xs[0], xs[-1]]
    chart.words += [Word(across(x), bottom + 14, f"{x:.4g}") for x in shown]
    chart.words.append(Word((LEFT + WIDTH - RIGHT) / 2, bottom + 30, x_name))
    ends = [min(point.low for point in points), max(point.high for point in points)]
    chart.words += [Word(LEFT - 6, up(y) + 4, f"{y:.3g}", "end") for y in dict.fromkeys(ends)]


def _scale(values: Sequence[float], begin: float, end: float) -> Callable[[float], float]:
    """A place for each value between begin and end, with some room at both sides."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    low, high = low - room, high + room
    return lambda value: round(begin + (value - low) / (high - low) * (end - begin), 1)
