"""Whether one setting does more when another one is changed too: a difference of two differences, prompt by prompt.

Guidance 4.5 may gain more over 1 at 28 steps than at 4 steps. Knows numbers and the names of cells, no settings.
"""

from __future__ import annotations

import numpy as np

from batchgen.errors import Refused
from batchgen.evaluate.bootstrap import percentiles
from batchgen.evaluate.compared import Comparison, Difference
from batchgen.evaluate.intervals import Images, Interval, over_seeds
from batchgen.evaluate.ranking import SEED
from batchgen.evaluate.scored import Scored
from batchgen.evaluate.significance import ALPHA, detectable, sign_flips

Change = tuple[str, str]  # names of cells: from the first to the second


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
