"""Whether one setting does more when another one is changed too: a difference of two differences, prompt by prompt.

Guidance 4.5 may gain more over 1 at 28 steps than at 4 steps. Knows numbers and the names of cells, no settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from batchgen.errors import Refused
from batchgen.evaluate.aligned import Cell
from batchgen.evaluate.bootstrap import percentiles
from batchgen.evaluate.compared import Comparison, Difference
from batchgen.evaluate.intervals import Images, Interval, over_seeds
from batchgen.evaluate.ranking import SEED
from batchgen.evaluate.scored import Scored
from batchgen.evaluate.significance import ALPHA, detectable, sign_flips

Change = tuple[str, str]  # names of cells: from the first to the second


def with_interactions(comparison: Comparison) -> Comparison:
    """The comparison, with the interaction of each scorer where two settings were swept in one run."""
    if (changes := corners(comparison.cells)) is None:
        return comparison
    rankings = [
        replace(one, interactions=(interaction(comparison, one.about.scorer, *changes),)) for one in comparison.rankings
    ]
    return replace(comparison, rankings=tuple(rankings))


def corners(cells: Sequence[Cell]) -> tuple[Change, Change] | None:
    """The change of one setting, from its first value to its last, at the last value of the other, and at its first.

    None unless exactly two settings vary, in one run that has all four of these cells.
    """
    names = list(dict.fromkeys(name for cell in cells for name in cell.swept))
    if len(names) != 2 or len({cell.run for cell in cells}) > 1:
        return None
    values = [list(dict.fromkeys(repr(cell.swept.get(name)) for cell in cells)) for name in names]
    at = {tuple(repr(cell.swept.get(name)) for name in names): cell.name for cell in cells}
    (first, last), (low, high) = ((found[0], found[-1]) for found in values)
    four = [at.get(corner) for corner in ((first, high), (last, high), (first, low), (last, low))]
    if len(set(four)) < 4 or None in four:
        return None
    one, two, three, other = (str(name) for name in four)
    return (one, two), (three, other)


def interaction(comparison: Comparison, scorer: str, one: Change, other: Change) -> Difference:
    """What `one` gains, less what `other` gains; the test is alone in its family. Raises Refused for unknown cells."""
    names = [cell.name for cell in comparison.cells]
    if unknown := [name for name in (*one, *other) if name not in names]:
        raise Refused(f"{', '.join(unknown)}: no such cell; there are {', '.join(names)}.")
    each = np.zeros(len(names))
    for name, sign in zip((one[1], one[0], other[1], other[0]), (1, -1, -1, 1), strict=True):
        each[names.index(name)] += sign
    scored = Scored(comparison.aligned, comparison.ranking(scorer).about, comparison.values[scorer])
    whole, _ = scored.parts(np.random.default_rng(SEED))
    weights, values = whole.weights, (whole.means @ each)[:, None]
    low, high = percentiles(weights, values, (whole.drawn @ each)[:, None])[:, 0]
    images = Images(whole.images.prompt, whole.images.seed, (whole.images.values @ each)[:, None])
    seeds = over_seeds(weights, images, None)
    tested = sign_flips(weights.each[:, None] * values, np.random.default_rng(SEED))
    variance = float(weights.variance(values)[0])
    stderr, p = None if np.isnan(variance) else float(np.sqrt(variance)), float(tested.p[0])
    return Difference(
        value=float(weights.value(values)[0]),
        stderr=stderr,
        interval=None if stderr is None else Interval(float(low), float(high), whole.name, "bootstrap"),
        seeds=seeds[0] if seeds else None,
        n=len(values),
        images=len(images.prompt),
        cell=f"{one[0]} to {one[1]}",
        against=f"{other[0]} to {other[1]}",
        category=None,
        p=p,
        p_holm=p,
        decided=p <= ALPHA,
        test=tested.method,
        detectable=detectable(stderr, 1),
    )
