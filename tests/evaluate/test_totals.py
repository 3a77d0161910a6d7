"""A benchmark's total is made by its own formula, and has its name only where nothing is missing or extra."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from batchgen.evaluate.totals import FORMULAS, PLAIN, bounds, formula_of, is_official, title_of

TAGS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}


def test_genevals_total_is_that_of_its_summary():
    """summary_scores.py in four lines of pandas: per tag the mean over images, then the mean of tags."""
    random = np.random.default_rng(1)
    tags = [tag for tag, count in TAGS.items() for _ in range(count)]
    images = random.integers(1, 5, len(tags)).astype(float)
    frame = pd.DataFrame({"tag": tags, "n": images.astype(int), "prompt": np.arange(len(tags))})
    frame = frame.loc[frame.index.repeat(frame["n"])]
    frame["correct"] = random.random(len(frame)) < frame["tag"].map(
        dict(zip(TAGS, (1.0, 0.2, 0.9, 0.3, 0.1, 0.1), strict=True))
    )
    theirs = frame.groupby("tag")["correct"].mean().mean()
    means = frame.groupby("prompt")["correct"].mean().to_numpy()[:, None]
    weights = FORMULAS["geneval"].weights(tags, images)
    assert weights.value(means)[0] == pytest.approx(theirs)
    assert abs(frame["correct"].mean() - theirs) > 0.001  # which is not the mean of images
    assert abs(PLAIN.weights(tags, images).value(means)[0] - theirs) > 0.001  # nor that of prompts


def test_dpgs_total_is_the_mean_of_prompts_whatever_their_categories():
    weights = formula_of("dpg").weights(["entity", "entity", "relation"], np.array([4.0, 2.0, 4.0]))
    assert weights.value(np.array([[1.0], [0.5], [0.0]]))[0] == pytest.approx(0.5)


def test_wises_shares_are_those_of_its_prompts():
    """.40 culture + .12 of each of the five others."""
    counts = {"culture": 400, "time": 120, "space": 120, "biology": 120, "physics": 120, "chemistry": 120}
    names = [name for name, count in counts.items() for _ in range(count)]
    means = np.random.default_rng(2).random(1000)
    of = pd.Series(means).groupby(names).mean()
    theirs = 0.4 * of["culture"] + 0.12 * (of.sum() - of["culture"])
    assert FORMULAS["wise"].weights(names, np.ones(1000)).value(means[:, None])[0] == pytest.approx(theirs)


def images(**changes):
    """Tag → number of images → prompts."""
    return {tag: Counter({4: changes.get(tag, count)}) for tag, count in TAGS.items()}


@pytest.mark.parametrize(
    ("found", "expected", "title"),
    [
        (images(), 553, "geneval"),
        (images(counting=71), 553, "subset 544/553"),
        (images(counting=87), 560, "extra prompts 560/553"),
        (images(counting=79, colors=95), 553, "other categories, 553 prompts"),
        (images() | {"colors": Counter({4: 93, 8: 1})}, 553, "uneven or extra images, 553 prompts"),
    ],
)
def test_only_what_is_complete_has_the_benchmarks_name(found, expected, title):
    assert title_of(FORMULAS["geneval"], "geneval", found, expected, official=True) == title


def test_only_the_benchmarks_own_scorer_has_its_name():
    assert title_of(FORMULAS["geneval"], "geneval", images(), 553, official=False) == "all 553 prompts"
    assert is_official("geneval", "geneval", "results.jsonl")
    assert is_official("geneval", "geneval-2", "results.jsonl")
    assert not is_official("geneval", "geneval2", "results.jsonl")
    assert not is_official("geneval", "geneval-like-owlv2", None)  # made here
    assert not is_official(None, "geneval", "results.jsonl")


def test_a_benchmark_of_one_image_a_prompt_takes_no_more():
    found = {"all": Counter({2: 800})}
    assert (
        title_of(FORMULAS["geneval2"], "geneval2", found, 800, official=True) == "uneven or extra images, 800 prompts"
    )
    assert title_of(FORMULAS["geneval2"], "geneval2", {"all": Counter({1: 800})}, 800, official=True) == "geneval2"


def test_other_prompts_have_no_benchmark():
    assert formula_of(None) is PLAIN
    assert formula_of("partiprompts") is PLAIN
    assert title_of(PLAIN, None, {"all": Counter({1: 7})}, 7, official=False) == "all 7 prompts"
    assert title_of(PLAIN, None, {"all": Counter({1: 7})}, 9, official=False) == "subset 7/9"


def test_bounds_are_what_missing_images_could_be():
    """Two images of three prompts; of the last one none is scored, of the second one of two."""
    sums, scored = np.array([[2.0], [1.0], [0.0]]), np.array([[2.0], [1.0], [0.0]])
    low, high = bounds(PLAIN, ["a"] * 3, np.full(3, 2.0), sums, scored, (0.0, 1.0))
    assert (low[0], high[0]) == pytest.approx(((1 + 0.5 + 0) / 3, 1.0))


def test_bounds_count_prompts_that_were_never_planned():
    """544 of GenEval's prompts, all right: nine of `counting` were left out."""
    tags = [tag for tag, count in TAGS.items() for _ in range(count - 9 * (tag == "counting"))]
    full = np.full((544, 1), 4.0)
    low, high = bounds(FORMULAS["geneval"], tags, np.full(544, 4.0), full, full, (0.0, 1.0))
    assert (low[0], high[0]) == pytest.approx(((5 + 71 / 80) / 6, 1.0))
    low, high = bounds(
        FORMULAS["dpg"], ["x"] * 1000, np.full(1000, 1.0), np.ones((1000, 1)), np.ones((1000, 1)), (0, 1)
    )
    assert (low[0], high[0]) == pytest.approx((1000 / 1065, 1.0))
