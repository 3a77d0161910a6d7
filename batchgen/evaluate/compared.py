"""What a comparison found, as data: cells, and for each scorer their values, differences and who leads.

A cell is one setting of one run: a combination of its sweep, or the run itself. Knows neither how it is found nor how
it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchgen.evaluate.aligned import Aligned, Cell
from batchgen.evaluate.intervals import Interval
from batchgen.evaluate.scores import About
from batchgen.evaluate.weighing import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean. stderr, interval: for new prompts; None where a category has one prompt.

    seeds: the interval for new seeds on these prompts; None with one image a prompt. n, images: that it is made of.
    """

    value: float
    stderr: float | None
    interval: Interval | None
    seeds: Interval | None
    n: int
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing(Estimate):
    """A cell by one scorer. expected: prompts that there should be.

    bounds: of the total if all missing images were wrong, or right; None where none is missing or the scale is open.
    unscored: planned images without a score. leads: its value is the best. among_best: it cannot be told from the
    leader. chosen_here: it leads among several, so that its value is also luck: score it again on other prompts.
    """

    cell: str
    expected: int
    bounds: tuple[float, float] | None
    unscored: int
    leads: bool
    among_best: bool
    chosen_here: bool
    categories: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Estimate):
    """cell − against, prompt by prompt. category: None of the total.

    p: of this test alone; p_holm: corrected for all of its family; decided: whether that is at most 0.05. detectable:
    the difference that so many prompts would have shown in 80 of 100 such comparisons.
    """

    cell: str
    against: str
    category: str | None
    p: float
    p_holm: float
    decided: bool
    test: str
    detectable: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """By one scorer. total: what the total is called; formula: how it is made.

    family, categories_family: which tests are corrected together. differences and by_category are theirs.
    interactions: where two settings are swept, what the one gains at the other's last value, less what at its first.
    leader: cell with the best value; best: cells that cannot be told from it, in the order of cells.
    """

    about: About
    total: str
    formula: str
    standings: tuple[Standing, ...]
    family: str
    differences: tuple[Difference, ...]
    categories_family: str
    by_category: tuple[Difference, ...]
    leader: str | None
    best: tuple[str, ...]
    detectable: float | None
    interactions: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """aligned: the images side by side; values: of each scorer their scores, (images, cells), NaN where there is none.

    baseline: the cell that others are held against; None with all pairs. left_out: sentences on what could not be
    compared, for people.
    """

    cells: tuple[Cell, ...]
    baseline: str | None
    rankings: tuple[Ranking, ...]
    aligned: Aligned
    values: Mapping[str, Floats]
    left_out: Sequence[str] = ()

    def ranking(self, scorer: str) -> Ranking:
        return next(one for one in self.rankings if one.about.scorer == scorer)
