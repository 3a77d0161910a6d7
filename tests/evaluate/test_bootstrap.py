"""Means, their standard errors and intervals, against formulas written out by hand and against scipy."""

from collections import defaultdict

import numpy as np
import pytest
from bench.intervals import simulate
from scipy import stats

from batchgen.evaluate.bootstrap import draw, percentiles, totals
from batchgen.evaluate.intervals import Images, effective_count, of_difference, over_prompts, over_seeds, wilson
from batchgen.evaluate.weighing import Weights

ONE = (0.0, 1.0)


@pytest.fixture
def random():
    return np.random.default_rng(5)


def test_a_total_is_the_mean_of_categories_and_so_is_its_error(random):
    a, b = random.random(30), random.random(12)
    weights = Weights.of(["a"] * 30 + ["b"] * 12, np.ones(42))
    values = np.concatenate([a, b])[:, None]
    assert weights.value(values)[0] == pytest.approx((a.mean() + b.mean()) / 2)
    by_hand = 0.25 * (a.var(ddof=1) / 30 + b.var(ddof=1) / 12)
    assert weights.variance(values)[0] == pytest.approx(by_hand)
    freedom = by_hand**2 / ((a.var(ddof=1) / 120) ** 2 / 29 + (b.var(ddof=1) / 48) ** 2 / 11)
    assert weights.freedom(values)[0] == pytest.approx(freedom)


def test_a_prompt_with_more_images_counts_more_where_images_count(random):
    values, images = random.random(9), np.array([1.0, 2, 4, 4, 4, 4, 2, 1, 4])
    weights = Weights.equal(images)
    assert weights.value(values[:, None])[0] == pytest.approx(np.average(values, weights=images))
    drawn = totals(weights, draw(weights, values[:, None], random))
    assert drawn.std() == pytest.approx(np.sqrt(weights.variance(values[:, None])[0] * 8 / 9), rel=0.1)


def test_the_bootstrap_is_that_of_scipy(random):
    """Paired, of a difference of two settings that are alike."""
    one = random.random(200)
    two = one + random.normal(0.02, 0.1, 200)
    weights, values = Weights.equal(np.ones(200)), np.stack([one, two], axis=1)
    drawn = totals(weights, draw(weights, values, random))
    theirs = stats.bootstrap(
        (one, two), lambda a, b: np.mean(a - b, axis=-1), paired=True, vectorized=False, method="percentile", rng=1
    )
    ours = drawn[:, 0] - drawn[:, 1]
    assert ours.std(ddof=1) == pytest.approx(theirs.standard_error, rel=0.03)
    (low,), (high,) = percentiles(weights, (one - two)[:, None], ours[:, None])
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert [low, high] == pytest.approx([*theirs.confidence_interval], abs=0.05 * width)


def test_draws_are_stratified_and_the_same_for_all_cells(random):
    strata = ["a"] * 20 + ["b"] * 50
    apart = np.array([0.0] * 20 + [1.0] * 50)
    noise = random.random(70)
    weights = Weights.of(strata, np.ones(70))
    drawn = totals(weights, draw(weights, np.stack([apart, noise, noise + 0.25], axis=1), random, 500))
    assert drawn[:, 0] == pytest.approx(np.full(500, 0.5))  # that categories differ is no uncertainty
    assert drawn[:, 2] - drawn[:, 1] == pytest.approx(np.full(500, 0.25))
    assert drawn[:, 1].std() > 0


def test_percentiles_of_few_prompts_are_moved_outwards(random):
    """By Student's t and n/(n − 1): here to the percentile 0.54 instead of 2.5."""
    values = random.normal(size=(6, 1))
    weights = Weights.equal(np.ones(6))
    drawn = totals(weights, draw(weights, values, random))
    tail = stats.norm.cdf(-np.sqrt(6 / 5) * stats.t.ppf(0.975, 5))
    assert tail == pytest.approx(0.00243, abs=1e-4)
    assert percentiles(weights, values, drawn)[:, 0] == pytest.approx(np.quantile(drawn[:, 0], [tail, 1 - tail]))


@pytest.mark.parametrize(("right", "of"), [(0, 12), (3, 40), (97, 100), (8, 8)])
def test_wilsons_interval_is_that_of_scipy(right, of):
    ours, theirs = wilson(right / of, of, ONE, ""), stats.binomtest(right, of).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    percent = wilson(100 * right / of, of, (0, 100), "")
    assert (percent.low, percent.high) == pytest.approx((100 * theirs.low, 100 * theirs.high))


def test_the_effective_number_is_that_of_the_design_effect(random):
    """The intraclass correlation by analysis of variance, written out."""
    prompts, images = 400, 4
    right = (random.random((prompts, images)) < random.beta(0.95, 0.05, prompts)[:, None]).astype(float)
    means = right.mean(axis=1)
    between = images * ((means - right.mean()) ** 2).sum() / (prompts - 1)
    within = ((right - means[:, None]) ** 2).sum() / (prompts * (images - 1))
    correlation = (between - within) / (between + (images - 1) * within)
    weights = Weights.equal(np.ones(prompts))
    variance = weights.variance(means[:, None])[0]
    found = effective_count(right.mean(), variance, (0.0, 1.0), weights.each, near=np.inf)
    assert found == pytest.approx(prompts * images / (1 + (images - 1) * correlation), rel=0.01)
    assert 0.3 < correlation < 0.7


def test_where_all_are_right_prompts_are_what_is_counted(random):
    weights, values = Weights.equal(np.ones(20)), np.ones((20, 1))
    (found,) = over_prompts(weights, values, np.ones((500, 1)), ONE, "new prompts")
    assert (found.low, found.high) == pytest.approx(tuple(stats.binomtest(20, 20).proportion_ci(method="wilson")))
    (open_scale,) = over_prompts(weights, values, np.ones((500, 1)), None, "new prompts")
    assert (open_scale.low, open_scale.high) == (1.0, 1.0)  # of an open scale nothing better is known


def test_a_score_beyond_its_scale_has_the_bootstraps_interval():
    assert effective_count(1.2, 0.01, ONE, np.full(10, 0.1)) is None


def test_a_category_of_one_prompt_says_that_nothing_is_known():
    (found,) = over_prompts(Weights.equal(np.ones(1)), np.ones((1, 1)), np.ones((500, 1)), ONE, "new prompts")
    assert (found.low, found.high) == ONE
    assert "one prompt" in found.method


def test_a_difference_near_the_end_is_made_of_both_intervals(random):
    """Squares of the distances to both ends, less what the two shares have in common."""
    one = np.array([1.0] * 56 + [0.0])
    two = np.array([1.0] * 50 + [0.0] * 7)
    weights, values = Weights.equal(np.ones(57)), np.stack([one, two], axis=1)
    ofs = [wilson(mean, 57, ONE, "") for mean in values.mean(axis=0)]
    found = of_difference(*ofs, np.zeros(2), values, values.mean(axis=0))
    phi = np.corrcoef(one, two)[0, 1]
    (p, q), (first, second) = values.mean(axis=0), ofs
    low = np.sqrt((p - first.low) ** 2 - 2 * phi * (p - first.low) * (second.high - q) + (second.high - q) ** 2)
    high = np.sqrt((first.high - p) ** 2 - 2 * phi * (first.high - p) * (q - second.low) + (q - second.low) ** 2)
    assert (found.low, found.high) == pytest.approx((p - q - low, p - q + high))
    assert weights.value(values) == pytest.approx([p, q])


def images_of(values, seeds):
    """values: (prompts, images)."""
    prompts, images = values.shape
    return Images(np.repeat(np.arange(prompts), images), np.asarray(seeds).ravel(), values.reshape(-1, 1))


def test_new_seeds_are_what_images_of_a_prompt_differ_by(random):
    values = random.random((50, 1)) * 10 + random.random((50, 3))
    (found,) = over_seeds(Weights.equal(np.ones(50)), images_of(values, np.arange(150)), None)
    error = np.sqrt((values.var(axis=1, ddof=1) / 3).sum()) / 50
    assert (found.high - found.low) / 2 == pytest.approx(1.98 * error, rel=0.02)
    assert (found.high + found.low) / 2 == pytest.approx(values.mean())
    assert found.name == "new seeds on these prompts"


def test_a_seed_of_all_prompts_is_one_observation(random):
    values = random.random((30, 1)) + 0.1 * random.random((30, 4)) + np.array([0.0, 1.0, 2.0, 0.5])
    images = images_of(values, np.tile(np.arange(4), (30, 1)))
    assert images.seeds_are_shared
    (found,) = over_seeds(Weights.equal(np.ones(30)), images, None)
    of_seeds = values.mean(axis=0)
    theirs = stats.t.interval(0.95, 3, of_seeds.mean(), of_seeds.std(ddof=1) / 2)
    assert (found.low, found.high) == pytest.approx(theirs)


def test_one_image_or_some_shared_seeds_say_nothing_of_new_seeds(random):
    weights = Weights.equal(np.ones(5))
    assert over_seeds(weights, images_of(random.random((5, 1)), np.arange(5)), None) is None
    some = np.arange(10)
    some[9] = 0
    assert over_seeds(weights, images_of(random.random((5, 2)), some), None) is None


def test_what_is_promised_holds_on_benchmarks_whose_truth_is_known():
    """100 of the 2,000 runs of jobs/bench/intervals.py: a share of 95 % is then known to about two points."""
    shares = simulate(100, seed=3, draws=400)
    of = defaultdict[str, list[float]](list)  # 'total' or 'category 3' → of each setting or pair
    for name, share in shares.items():
        of[name.split(",")[0]].append(share)
    held = {kind: sum(found) / len(found) for kind, found in of.items() if kind not in ("false_alarms", "found")}
    assert all(share >= 0.9 for share in held.values()), held
    assert all(held[kind] <= 0.985 for kind in ("total", "difference", "new_seeds")), held
    assert len(held) == 3 + 6 + 6
    assert max(of["false_alarms"]) <= 0.12
    assert shares["found, base against all"] >= 0.9
