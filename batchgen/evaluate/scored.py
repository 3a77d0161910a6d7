"""The scores of one scorer on aligned images: which prompts count, what their total is called, what is missing.

A prompt counts where all its images are scored in all cells. Knows no files: scores come as a matrix.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from batchgen.evaluate.aligned import Aligned
from batchgen.evaluate.intervals import Images, Scale
from batchgen.evaluate.part import Part
from batchgen.evaluate.scores import About
from batchgen.evaluate.totals import Formula, bounds, formula_of, is_official, title_of
from batchgen.evaluate.weighing import Floats, Ints, Weights


@dataclass(frozen=True)
class Scored:
    """aligned: the images. values: their scores, (images, cells), NaN where there is none."""

    aligned: Aligned
    about: About
    values: Floats

    @cached_property
    def used(self) -> Ints:
        """Numbers of the prompts that count."""
        partnered = self.aligned.partnered
        lacking = self.aligned.prompt[partnered & np.isnan(self.values).any(axis=1)]
        return np.setdiff1d(self.aligned.prompt[partnered], lacking)

    @cached_property
    def categories(self) -> npt.NDArray[np.str_]:
        """Of every prompt, those that do not count too."""
        return self.aligned.prompts["category"].to_numpy(str)

    @property
    def formula(self) -> Formula:
        return formula_of(self.aligned.benchmark)

    @property
    def scale(self) -> Scale | None:
        low, high = self.about.low, self.about.high
        return None if low is None or high is None or not low < high else (low, high)

    @cached_property
    def images(self) -> Images:
        """Those of the prompts that count, which have new numbers."""
        at = self.aligned.partnered & np.isin(self.aligned.prompt, self.used)
        return Images(np.searchsorted(self.used, self.aligned.prompt[at]), self.aligned.seed[at], self.values[at])

    def parts(self, random: np.random.Generator) -> tuple[Part, dict[str, Part]]:
        """The total and, where there are several, each category in the order of the table."""
        images, categories = self.images, self.categories[self.used]
        count = np.bincount(images.prompt).astype(float)
        sizes = self.formula.sizes(count)
        whole, drawn = Part.whole(images, self.formula.weights([*categories], count), self.scale, random)
        names = [str(name) for name in dict.fromkeys(categories)]
        if len(names) < 2:
            return whole, {}
        if not self.formula.by_category:
            _, drawn = Part.whole(images, Weights.of([*categories], sizes), self.scale, random)
        found = {}
        for name in names:
            prompts = np.flatnonzero(categories == name)
            found[name] = whole.category(prompts, sizes[prompts], drawn[:, sorted(names).index(name)])
        return whole, found

    @property
    def expected(self) -> int:
        """Prompts that there should be."""
        return max(len(self.categories), self.formula.prompts or 0)

    @property
    def title(self) -> str:
        """What the total may be called."""
        counts = np.bincount(self.images.prompt)
        images: dict[str, Counter[int]] = {}
        for name, count in zip(self.categories[self.used], counts, strict=True):
            images.setdefault(str(name), Counter())[int(count)] += 1
        official = is_official(self.aligned.benchmark, self.about.scorer, self.about.source)
        return title_of(self.formula, self.aligned.benchmark, images, self.expected, official=official)

    def bounds(self) -> list[tuple[float, float] | None]:
        """Of each cell's total; None where nothing is missing, or nobody knows how wrong an image can be."""
        expected, sums, scored = self._counts()
        if self.scale is None:
            return [None] * self.values.shape[1]
        low, high = bounds(self.formula, [*self.categories], expected, sums, scored, self.scale)
        return [(float(a), float(b)) if b - a > 1e-9 else None for a, b in zip(low, high, strict=True)]

    def unscored(self) -> list[int]:
        """Of each cell: planned images without a score."""
        planned = self.aligned.ids != None  # noqa: E711
        return [int(count) for count in (planned & np.isnan(self.values)).sum(axis=0)]

    def _counts(self) -> tuple[Floats, Floats, Floats]:
        """Of each prompt how many images it should have; of each prompt and cell the sum of scores and their number."""
        prompts, cells = len(self.categories), self.values.shape[1]
        planned, sums, scored = (np.zeros((prompts, cells)) for _ in range(3))
        np.add.at(planned, self.aligned.prompt, (self.aligned.ids != None).astype(float))  # noqa: E711
        np.add.at(sums, self.aligned.prompt, np.nan_to_num(self.values))
        np.add.at(scored, self.aligned.prompt, (~np.isnan(self.values)).astype(float))
        return planned.max(axis=1), sums, scored
