"""All cells by one scorer: their values, the tests between them, and who leads.

Families of tests are declared: all cells against a baseline or all pairs, and the same in all categories, which is
exploratory. Each is corrected on its own. Knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import combinations
from typing import Any

import numpy as np

from batchgen.evaluate.compared import Difference, Estimate, Ranking, Standing
from batchgen.evaluate.part import Pair, Part
from batchgen.evaluate.scored import Scored
from batchgen.evaluate.significance import ALPHA, detectable, flips_for, holm

SEED = 0  # of the draws and flips: the same scores give the same numbers


def rank(scored: Scored, baseline: int | None) -> Ranking:
    """baseline: the column that all others are held against; None for all pairs."""
    whole, categories = scored.parts(np.random.default_rng(SEED))
    estimates, names = whole.estimates(), [cell.name for cell in scored.aligned.cells]
    every: list[Pair] = [(second, first) for first, second in combinations(range(len(names)), 2)]
    pairs = every if baseline is None else [(at, baseline) for at in range(len(names)) if at != baseline]
    leader, best = _leaders(whole, every, scored.about.higher_is_better)
    differences = _differences({None: whole}, pairs, names)
    of = "all pairs" if baseline is None else f"all against {names[baseline]}"
    return Ranking(
        about=scored.about,
        total=scored.title,
        formula=scored.formula.words,
        standings=_standings(scored, estimates, categories, leader, best),
        family=f"{of}: {_tests(len(pairs))}",
        differences=differences,
        categories_family=f"{of}, in {len(categories)} categories: {_tests(len(pairs) * len(categories))}, exploratory",
        by_category=_differences(categories, pairs, names),
        leader=names[leader] if every else None,
        best=tuple(names[at] for at in best) if every else (),
        detectable=max((one.detectable for one in differences if one.detectable), default=None),
    )


def _leaders(whole: Part, every: Sequence[Pair], higher: bool) -> tuple[int, list[int]]:
    """The best cell, and those that all pairs, corrected together, do not tell from it."""
    total = whole.weights.value(whole.means)
    leader = int(np.argmax(total if higher else -total))
    if not every:
        return leader, [leader]
    p = holm(whole.test(every, np.random.default_rng(SEED), flips_for(len(every))).p)
    worse = {a + b - leader for (a, b), value in zip(every, p, strict=True) if leader in (a, b) and value <= ALPHA}
    return leader, [at for at in range(len(total)) if at not in worse]


def _differences(parts: Mapping[Any, Part], pairs: Sequence[Pair], names: Sequence[str]) -> tuple[Difference, ...]:
    """Of all pairs in all parts, corrected together."""
    tests = len(parts) * len(pairs)
    if not tests:
        return ()
    random = np.random.default_rng(SEED)
    tested = {name: part.test(pairs, random, flips_for(tests)) for name, part in parts.items()}
    adjusted = iter(holm(np.concatenate([one.p for one in tested.values()])))
    found = []
    for category, part in parts.items():
        test = tested[category]
        for (one, other), estimate, p in zip(pairs, part.differences(pairs), test.p, strict=True):
            p_holm = float(next(adjusted))
            found.append(
                Difference(
                    **_fields(estimate),
                    cell=names[one],
                    against=names[other],
                    category=category,
                    p=float(p),
                    p_holm=p_holm,
                    decided=p_holm <= ALPHA,
                    test=test.method,
                    detectable=detectable(estimate.stderr, tests),
                )
            )
    return tuple(found)


def _standings(
    scored: Scored, estimates: Sequence[Estimate], categories: Mapping[str, Part], leader: int, best: Sequence[int]
) -> tuple[Standing, ...]:
    of_categories = {name: part.estimates() for name, part in categories.items()}
    bounds, unscored, several = scored.bounds(), scored.unscored(), len(estimates) > 1
    return tuple(
        Standing(
            **_fields(estimate),
            cell=cell.name,
            expected=scored.expected,
            bounds=bounds[at],
            unscored=unscored[at],
            leads=several and at == leader,
            among_best=several and at in best,
            chosen_here=several and at == leader,
            categories={name: found[at] for name, found in of_categories.items()},
        )
        for at, (cell, estimate) in enumerate(zip(scored.aligned.cells, estimates, strict=True))
    )


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count} tests"


def _fields(estimate: Estimate) -> dict[str, Any]:
    return {one.name: getattr(estimate, one.name) for one in fields(Estimate)}
