"""Do the intervals and tests of a comparison hold what they promise? Benchmarks are made up whose truth is known.

Each run is a benchmark of GenEval's shape: six tags of 80 to 100 prompts, four images each, right or wrong, of which
two of one prompt correlate by 0.5; one tag is nearly always right. Five settings are compared:

    base        against which the others are held
    twin        the same chance on every prompt
    stranger    the same chance on average, another one on each prompt
    exchange    better at one tag and worse at another by as much: the same total
    better      better at all tags but the one that is nearly always right

An interval should hold the truth in 95 of 100 runs, and a family of tests should raise a false alarm in at most 5 of
100. Prints a table; the last line is JSON:

    total, difference, new_seeds    the least and the largest share of runs in which intervals of totals, of differences
                                    of totals, and of totals for new seeds on the same prompts, hold the truth
    category, category_difference   the least share of the same, among tags
    false_alarms                    the largest share of runs in which a family finds a difference where there is none
    found                           share of runs in which the better one is found to be better

    python jobs/bench/intervals.py [--runs 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np
from scipy import special

from batchgen.evaluate.bootstrap import draw, percentiles, totals
from batchgen.evaluate.intervals import NEW_PROMPTS, Images, of_difference, over_prompts, over_seeds
from batchgen.evaluate.significance import ALPHA, holm, sign_flips
from batchgen.evaluate.weighing import Weights

PROMPTS = (80, 99, 80, 94, 100, 100)  # of GenEval's tags, in the order of its prompts
CHANCE = (0.99, 0.85, 0.6, 0.8, 0.25, 0.5)  # of an image to be right
IMAGES = 4
CORRELATION = 0.5  # of two images of a prompt: 1/(a + b + 1) of a beta distribution
SETTINGS = ("base", "twin", "stranger", "exchange", "better")
SHIFT = {"exchange": (0, 0, 0.1, 0, 0, -0.1), "better": (0, 0.04, 0.06, 0.05, 0.06, 0.06)}
EQUAL = ("base", "twin", "stranger", "exchange")  # in their totals
LIKE = 0.7  # correlation of the ease of a prompt between base and stranger
DRAWS = 2_000  # fewer than a comparison makes, as there are many runs
SCALE = (0.0, 1.0)

TAGS = np.repeat(np.arange(len(PROMPTS)), PROMPTS)
CHANCES = np.array([np.add(CHANCE, SHIFT.get(name, 0)) for name in SETTINGS]).T  # (tags, settings)
PAIRS = list(combinations(range(len(SETTINGS)), 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.perf_counter()
    shares = simulate(arguments.runs, arguments.seed)
    for name, share in shares.items():
        print(f"{share:7.2%}  {name}")
    seconds = round(time.perf_counter() - began, 1)
    settings = {"runs": arguments.runs, "seed": arguments.seed, "draws": DRAWS}
    print(json.dumps(summary(shares) | settings | {"seconds": seconds}))


def simulate(runs: int, seed: int, draws: int = DRAWS) -> dict[str, float]:
    """What happened → in which share of the runs. draws: of a bootstrap, and flips of a test."""
    random, counted = np.random.default_rng(seed), defaultdict[str, int](int)
    weights = Weights.of([f"{tag}" for tag in TAGS], np.full(len(TAGS), float(IMAGES)))
    for _ in range(runs):
        chance = chances(random)
        right = (random.random((IMAGES, *chance.shape)) < chance).astype(float)
        for name, happened in {
            **held(weights, right.mean(axis=0), random, draws),
            **held_for_seeds(weights, right, chance),
            **alarms(weights, right.mean(axis=0), random, draws),
        }.items():
            counted[name] += happened
    return {name: count / runs for name, count in counted.items()}


def chances(random: np.random.Generator) -> Any:
    """Of each prompt and setting: how often its images are right."""
    ease = random.standard_normal(len(TAGS))
    other = LIKE * ease + np.sqrt(1 - LIKE**2) * random.standard_normal(len(TAGS))
    eases = np.stack([other if name == "stranger" else ease for name in SETTINGS], axis=1)
    mean = CHANCES[TAGS]
    both = 1 / CORRELATION - 1
    return special.betaincinv(both * mean, both * (1 - mean), special.ndtr(eases))


def held(weights: Weights, means: Any, random: np.random.Generator, draws: int) -> dict[str, bool]:
    """Whether the intervals for new prompts hold the truth."""
    drawn, found = draw(weights, means, random, draws), {}
    for tag in [None, *range(len(PROMPTS))]:
        if tag is None:
            part, values, of_part, truth = weights, means, totals(weights, drawn), CHANCES.mean(axis=0)
        else:
            values = means[tag == TAGS]
            part, of_part, truth = Weights.equal(np.ones(len(values))), drawn[:, tag], CHANCES[tag]
        intervals = over_prompts(part, values, of_part, SCALE, NEW_PROMPTS)
        of = "total" if tag is None else f"category {tag}"
        for name, interval, true in zip(SETTINGS, intervals, truth, strict=True):
            found[f"{of}, {name}"] = interval.low <= true <= interval.high
        first, second = np.array(PAIRS).T
        ends = percentiles(part, values[:, first] - values[:, second], of_part[:, first] - of_part[:, second]).T
        value = part.value(values)
        for (one, two), end in zip(PAIRS, ends, strict=True):
            weighted = part.each[:, None] * (values - part.strata_means(values)[part.stratum])[:, [one, two]]
            interval = of_difference(intervals[one], intervals[two], end, weighted, value[[one, two]])
            true = truth[one] - truth[two]
            kind = "difference" if tag is None else f"category_difference {tag}"
            found[f"{kind}, {SETTINGS[one]} - {SETTINGS[two]}"] = interval.low - 1e-9 <= true <= interval.high + 1e-9
    return found


def held_for_seeds(weights: Weights, right: Any, chance: Any) -> dict[str, bool]:
    """The same for new seeds on these prompts. right: (images, prompts, settings)."""
    images = Images(np.tile(np.arange(len(TAGS)), IMAGES), np.arange(IMAGES * len(TAGS)), np.concatenate(right))
    intervals, truth = over_seeds(weights, images, SCALE), weights.value(chance)
    assert intervals
    found = {
        f"new_seeds, {name}": interval.low <= true <= interval.high
        for name, interval, true in zip(SETTINGS, intervals, truth, strict=True)
    }
    images = Images(images.prompt, images.seed, images.values[:, 1:] - images.values[:, :1])
    intervals = over_seeds(weights, images, None)
    assert intervals
    return found | {
        f"new_seeds, {name} - base": interval.low <= true - truth[0] <= interval.high
        for name, interval, true in zip(SETTINGS[1:], intervals, truth[1:], strict=True)
    }


def alarms(weights: Weights, means: Any, random: np.random.Generator, draws: int) -> dict[str, bool]:
    """Whether a family of tests finds a difference where there is none, and whether it finds the one that there is."""
    weighted = np.stack([(means[:, one] - means[:, two]) * weights.each for one, two in PAIRS], axis=1)
    p = sign_flips(weighted, random, draws - 1).p
    by_tag = np.stack([sign_flips(weighted[tag == TAGS], random, draws - 1).p for tag in range(len(PROMPTS))])
    null = np.array([SETTINGS[one] in EQUAL and SETTINGS[two] in EQUAL for one, two in PAIRS])
    null_tags = np.array(
        [[CHANCES[tag, one] == CHANCES[tag, two] for one, two in PAIRS] for tag in range(len(PROMPTS))]
    )
    with_base = np.array([one == 0 for one, _ in PAIRS])
    without_better = np.array(["better" not in (SETTINGS[one], SETTINGS[two]) for one, two in PAIRS])
    alone = np.array([pair == (0, 1) for pair in PAIRS])
    families = {
        "base against all": with_base,
        "base against its equals": with_base & without_better,
        "all pairs": with_base | ~with_base,
        "all pairs of equals": without_better,
        "base against its twin": alone,
    }
    found = {}
    for name, family in families.items():
        found[f"false_alarms, {name}"] = bool((holm(p[family])[null[family]] <= ALPHA).any())
        tags = holm(by_tag[:, family].ravel())
        found[f"false_alarms, {name}, tags"] = bool((tags[null_tags[:, family].ravel()] <= ALPHA).any())
    better = PAIRS.index((0, SETTINGS.index("better")))
    found["found, base against all"] = bool(holm(p[with_base])[np.flatnonzero(with_base) == better][0] <= ALPHA)
    return found


def summary(shares: dict[str, float]) -> dict[str, Any]:
    def of(kind: str) -> list[float]:
        return [round(share, 4) for name, share in shares.items() if name.split(",")[0].split(" ")[0] == kind]

    both = {kind: [min(of(kind)), max(of(kind))] for kind in ("total", "difference", "new_seeds")}
    least = {kind: min(of(kind)) for kind in ("category", "category_difference")}
    return both | least | {"false_alarms": max(of("false_alarms")), "found": of("found")[0]}


if __name__ == "__main__":
    main()
