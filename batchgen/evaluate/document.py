"""A comparison as a JSON document for programs: the numbers of `compared`, null where nothing is known.

    schema          1; a later one adds keys, and does not change what these mean
    batchgen        the version that compared
    aligned_by      'prompt and seed' or 'prompt and sample_index'
    baseline        the cell that others are held against; null with all pairs
    benchmark       {name, sha256, licence} of the prompts; null where they belong to none or to several
    left_out        sentences on what could not be compared
    cells           [{name, run, cell, swept, settings, model, model_digest, fingerprint, versions,
                      seconds, planned, failed, unpartnered, repeated}]
    scorers         [{scorer, version, weights_sha256, source, low, high, higher_is_better, settings,
                      total, formula, results, family, differences, interactions, categories_family,
                      category_differences,
                      leader, best, detectable}]

A result, one for each cell: {cell, value, stderr, interval, seeds_interval, n, images, expected, bounds, unscored,
higher_is_better, leads, among_best, chosen_here, settings, versions, categories: {name: {value, stderr, interval,
seeds_interval, n, images}}}. n: prompts; expected: prompts that there should be; settings, versions: of the cell, and
the scorer's own version under `scorer`. An interval: {low, high, name, method}, of 95 %. A difference: {cell, against,
category, value, stderr, interval, seeds_interval, n, images, p, p_holm, decided, test, detectable}. What these are
says `compared`. Knows no statistics and no files.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from batchgen import __version__
from batchgen.evaluate.compared import Comparison, Difference, Estimate, Ranking

SCHEMA = 1


def to_json(comparison: Comparison) -> str:
    document = {
        "schema": SCHEMA,
        "batchgen": __version__,
        "aligned_by": comparison.aligned.by,
        "baseline": comparison.baseline,
        "benchmark": _benchmark(comparison),
        "left_out": list(comparison.left_out),
        "cells": [{key: value for key, value in asdict(cell).items() if key != "number"} for cell in comparison.cells],
        "scorers": [_scorer(comparison, ranking) for ranking in comparison.rankings],
    }
    return json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False)


def _benchmark(comparison: Comparison) -> dict[str, Any] | None:
    prompts, name = comparison.aligned.prompts, comparison.aligned.benchmark
    if name is None:
        return None
    known = {key: [*prompts[f"benchmark_{key}"].dropna().unique()] for key in ("sha256", "licence")}
    return {"name": name} | {key: ", ".join(map(str, values)) or None for key, values in known.items()}


def _scorer(comparison: Comparison, ranking: Ranking) -> dict[str, Any]:
    cells = {cell.name: cell for cell in comparison.cells}
    results = [
        _estimate(one)
        | {
            name: getattr(one, name)
            for name in ("expected", "bounds", "unscored", "leads", "among_best", "chosen_here")
        }
        | {
            "cell": one.cell,
            "higher_is_better": ranking.about.higher_is_better,
            "settings": dict(cells[one.cell].settings),
            "versions": {**cells[one.cell].versions, "scorer": ranking.about.version},
            "categories": {name: _estimate(part) for name, part in one.categories.items()},
        }
        for one in ranking.standings
    ]
    return asdict(ranking.about) | {
        "total": ranking.total,
        "formula": ranking.formula,
        "results": results,
        "family": ranking.family,
        "differences": [_difference(one) for one in ranking.differences],
        "interactions": [_difference(one) for one in ranking.interactions],
        "categories_family": ranking.categories_family,
        "category_differences": [_difference(one) for one in ranking.by_category],
        "leader": ranking.leader,
        "best": list(ranking.best),
        "detectable": ranking.detectable,
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {
        "value": one.value,
        "stderr": one.stderr,
        "interval": one.interval and asdict(one.interval),
        "seeds_interval": one.seeds and asdict(one.seeds),
        "n": one.n,
        "images": one.images,
    }


def _difference(one: Difference) -> dict[str, Any]:
    names = ("cell", "against", "category", "p", "p_holm", "decided", "test", "detectable")
    return _estimate(one) | {name: getattr(one, name) for name in names}


def _finite(value: Any) -> Any:
    """Numbers that JSON does not have are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
