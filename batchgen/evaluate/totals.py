"""What a total is made of: a benchmark's own formula where one is known, else the mean of prompts.

Under the name of a benchmark stands only what is complete: the same prompts, images and scorer. All else is a subset,
with the bounds that the missing images leave. Knows formulas, no files and no runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from batchgen.evaluate.intervals import Scale
from batchgen.evaluate.weighing import Floats, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """words: for people. by_category: the mean of categories' means, which count the same.

    over_images: a category's mean is over images, not over prompts. categories: how many prompts each of them has.
    prompts, images: how many there are, and of each prompt; None where any number will do. A formula without `prompts`
    cannot be complete.
    """

    words: str = "mean of prompts"
    by_category: bool = False
    over_images: bool = False
    categories: Mapping[str, int] | None = None
    prompts: int | None = None
    images: int | None = None

    def sizes(self, images: Floats) -> Floats:
        """What each prompt counts among others. images: of each prompt."""
        return images if self.over_images else np.ones(len(images))

    def weights(self, categories: Sequence[str], images: Floats) -> Weights:
        """categories, images: of each prompt."""
        sizes = self.sizes(images)
        return Weights.of(categories, sizes) if self.by_category else Weights.equal(sizes)


PLAIN = Formula()
# By the name in the column `benchmark`. Of others no total of their own is known, or it is not made of images' scores:
# OneIG-Bench has none, T2I-CompBench and UniGenBench report categories, LongText-Bench pools words.
FORMULAS = {
    # summary_scores.py of github.com/djghosh13/geneval at af4902f; its 553 prompts by tag
    "geneval": Formula(
        words="mean of the six tags' means over images",
        by_category=True,
        over_images=True,
        prompts=553,
        categories={
            "single_object": 80,
            "two_object": 99,
            "counting": 80,
            "colors": 94,
            "position": 100,
            "color_attr": 100,
        },
    ),
    # evaluation.py of GenEval2 at a6e82d2, whose table by skill is another mean
    "geneval2": Formula(prompts=800, images=1),
    # dpg_bench of github.com/TencentQQGYLab/ELLA at 3c228f1: a prompt's value is the mean of its tiles
    "dpg": Formula(prompts=1065),
    # .40 culture + .12 of five others: with 400 and five times 120 prompts that is the mean of prompts.
    # github.com/PKU-YuanGroup/WISE at eb51174
    "wise": Formula(words="mean of prompts, as .40 culture + .12 of each other category", prompts=1000, images=1),
    "tiif": Formula(words="mean of categories' means", by_category=True),
}


def formula_of(benchmark: str | None) -> Formula:
    """benchmark: what all prompts belong to; None where they belong to none or to several."""
    return FORMULAS.get(benchmark or "", PLAIN)


def title_of(
    formula: Formula, benchmark: str | None, images: Mapping[str, Counter[int]], expected: int, *, official: bool
) -> str:
    """What a total may be called. images: category → number of images → prompts that have so many, of those expected.

    official: whether the scores are those of the benchmark's own scorer.
    """
    count = sum(sum(prompts.values()) for prompts in images.values())
    if count < expected:
        return f"subset {count}/{expected}"
    if formula.prompts is not None and count > formula.prompts:
        return f"extra prompts {count}/{formula.prompts}"
    numbers = {number for prompts in images.values() for number in prompts}
    if len(numbers) > 1 or formula.images not in (None, *numbers):
        return f"uneven or extra images, {count} prompts"
    found = {category: sum(prompts.values()) for category, prompts in images.items()}
    if formula.categories is not None and found != formula.categories:
        return f"other categories, {count} prompts"
    return benchmark if benchmark and official and formula.prompts is not None else f"all {count} prompts"


def is_official(benchmark: str | None, scorer: str, source: str | None) -> bool:
    """Whether scores came from a file, and under a name that begins with the benchmark's."""
    return source is not None and benchmark is not None and (scorer == benchmark or scorer.startswith(f"{benchmark}-"))


def bounds(
    formula: Formula, categories: Sequence[str], images: Floats, sums: Floats, scored: Floats, scale: Scale
) -> tuple[Floats, Floats]:
    """Each column's total if all that is missing were at the lower end of the scale, and at the upper.

    categories, images: of each planned prompt, with the number of images that it should have; sums, scored: of its
    scores, (prompts, columns). Prompts of the benchmark that were not planned are missing too.
    """
    missing = _unplanned(formula, categories)
    images = np.append(images, np.full(len(missing), np.median(images)))
    none = np.zeros((len(missing), sums.shape[1]))
    sums, scored = np.vstack([sums, none]), np.vstack([scored, none])
    images_of = np.maximum(images[:, None], scored)
    weights = formula.weights([*categories, *missing], images)
    low, high = ((sums + (images_of - scored) * end) / images_of for end in scale)
    return weights.value(low), weights.value(high)


def _unplanned(formula: Formula, categories: Sequence[str]) -> list[str]:
    if formula.categories is not None:
        there = Counter(categories)
        return [name for name, count in formula.categories.items() for _ in range(count - there[name])]
    return ["not planned"] * max(0, (formula.prompts or 0) - len(categories)) if not formula.by_category else []
