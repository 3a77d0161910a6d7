"""Runs are compared where they show the same prompts from the same seeds, and what is not comparable is said."""

import numpy as np
import pandas as pd
import pytest

from batchgen.errors import Refused
from batchgen.evaluate.aligned import Aligned, align
from batchgen.evaluate.comparison import compare
from batchgen.evaluate.interaction import interaction
from batchgen.evaluate.scored import Scored
from batchgen.evaluate.scores import About, write_part
from batchgen.evaluate.significance import holm
from batchgen.evaluate.tables import tables
from batchgen.evaluate.totals import FORMULAS
from batchgen.look.results import Results
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here

SCALE = {"low": 0.0, "high": 1.0}


def render(job):
    return render_here(make_plan(prepare(job))[0])


def score(run, of, scorer="oracle", version="1", **about):
    """of: a row of the metadata → its score, or None."""
    rows = Results(run.store.url).to_pandas().to_dict("records")
    found = [{"image_id": row["image_id"], "score": of(row)} for row in rows if row["status"] == "ok"]
    write_part(run.store, About(scorer=scorer, version=version, **(SCALE | about)), found)


def chance(row):
    """The same for the same image of any setting, between 0 and 1."""
    return (int(row["seed"]) * 2654435761 % 1000) / 1000


@pytest.fixture
def swept(make_job):
    """12 prompts in two categories, two images each, at three guidances; better with more of it."""
    rows = [{"prompt": f"p{n}", "category": "one" if n < 5 else "two"} for n in range(12)]
    job = make_job(rows, sweep={"guidance_scale": [4.5, 1.0, 7.0]}, sampling={"num_images_per_prompt": 2})
    run = render(job)
    score(run, lambda row: float(chance(row) < row["guidance_scale"] / 8))
    return run


def by_hand(run, guidance, category=None):
    """The mean of prompts' means."""
    rows = Results(run.store.url).to_pandas()
    rows = rows[rows["guidance_scale"] == guidance]
    if category:
        rows = rows[rows["category"] == category]
    right = rows.assign(right=[float(chance(row) < guidance / 8) for row in rows.to_dict("records")])
    return right.groupby("prompt")["right"].mean()


def test_a_sweep_is_compared_cell_by_cell(swept):
    found = compare([("run", swept)])
    assert [cell.swept["guidance_scale"] for cell in found.cells] == [4.5, 1.0, 7.0]  # as the job wrote them
    (ranking,) = found.rankings
    assert found.baseline == "guidance_scale=4.5"
    assert [one.value for one in ranking.standings] == pytest.approx([by_hand(swept, g).mean() for g in (4.5, 1, 7)])
    assert ranking.total == "all 12 prompts"
    assert ranking.formula == "mean of prompts"
    assert {(one.n, one.images, one.expected) for one in ranking.standings} == {(12, 24, 12)}
    for guidance, one in zip((4.5, 1.0, 7.0), ranking.standings, strict=True):
        means = by_hand(swept, guidance)
        assert one.stderr == pytest.approx(means.std(ddof=1) / np.sqrt(12))
        assert one.interval.low <= one.value <= one.interval.high
        assert one.interval.name == "new prompts"
        assert one.seeds.name == "new seeds on these prompts"
        assert {name: part.value for name, part in one.categories.items()} == pytest.approx(
            {name: by_hand(swept, guidance, name).mean() for name in ("one", "two")}
        )
    difference = ranking.differences[1]
    means = by_hand(swept, 7.0) - by_hand(swept, 4.5)
    assert (difference.cell, difference.against) == ("guidance_scale=7.0", "guidance_scale=4.5")
    assert difference.value == pytest.approx(means.mean())
    assert difference.stderr == pytest.approx(means.std(ddof=1) / np.sqrt(12))
    assert len(ranking.by_category) == 4
    assert "2 tests" in ranking.family
    assert "4 tests, exploratory" in ranking.categories_family


def test_the_winner_is_a_set_and_its_score_is_marked(swept):
    (ranking,) = compare([("run", swept)], all_pairs=True).rankings
    assert ranking.leader == "guidance_scale=7.0"
    assert "guidance_scale=1.0" not in ranking.best
    assert [one.chosen_here for one in ranking.standings] == [False, False, True]
    assert len(ranking.differences) == 3
    for family in (ranking.differences, ranking.by_category):
        assert [one.p_holm for one in family] == pytest.approx([*holm([one.p for one in family])])
        assert any(one.p_holm > one.p for one in family)
    lower = [one for one in ranking.differences if one.cell == "guidance_scale=1.0"]
    assert [one.decided for one in lower] == [True]


def test_fewer_is_better_where_the_scorer_says_so(swept):
    score(swept, lambda row: row["guidance_scale"], "distance", higher_is_better=False)
    assert compare([("run", swept)], ["distance"]).rankings[0].leader == "guidance_scale=1.0"


def seeded(number, seed=7):
    return {"prompt": f"p{number}", "seed": seed}


def test_runs_of_different_weeks_are_aligned_by_prompt_and_seed(make_job):
    sampling = {"num_images_per_prompt": 2}
    first = render(make_job([seeded(n) for n in range(6)], out="first", sampling=sampling))
    later = [seeded(n) for n in (9, 5, 4, 3, 2)]
    second = render(make_job(later, out="later", sampling=sampling | {"guidance_scale": 2.0}))
    for run in (first, second):
        score(run, lambda row: float(row["prompt"] in ("p2", "p3") or row["guidance_scale"] == 2.0))
    found = compare([("old", first), ("new", second)])
    assert [cell.name for cell in found.cells] == ["old", "new"]
    assert [(cell.planned, cell.unpartnered) for cell in found.cells] == [(12, 4), (10, 2)]
    old, new = found.rankings[0].standings
    assert (old.value, new.value, old.n, old.expected) == (0.5, 1.0, 4, 7)
    assert found.rankings[0].total == "subset 4/7"
    assert old.interval.name == "new prompts, given these seeds"  # 7 and 8, of every prompt
    pairs = found.aligned.ids[found.aligned.partnered]
    prompts = [Results(run.store.url).to_pandas().set_index("image_id")["prompt"] for run in (first, second)]
    assert [prompts[0][a] for a, _ in pairs] == [prompts[1][b] for _, b in pairs]
    # In the first run 2 of the 4 prompts are wrong, and so are p0 and p1; p9 it does not have.
    assert old.bounds == pytest.approx((2 / 7, 3 / 7))


def test_a_benchmark_is_told_by_its_own_ids(make_job):
    """Two of its prompts have the same text."""
    rows = [
        {"prompt": text, "id": f"b-{n}", "benchmark": "b", "benchmark_id": f"{n}", "category": "all"}
        for n, text in enumerate(("same", "same", "other"))
    ]
    runs = [render(make_job(rows, out=name)) for name in ("x", "y")]
    aligned = align([("x", runs[0]), ("y", runs[1])])
    assert len(aligned.prompts) == 3
    assert aligned.partnered.all()
    assert aligned.benchmark == "b"


def test_what_repeats_a_prompt_and_its_seed_is_counted_and_left_out(make_job):
    run = render(make_job([seeded(1), seeded(2), seeded(1)]))
    score(run, lambda row: 1.0)
    found = compare([("run", run)])
    assert found.cells[0].repeated == 1
    assert any("1 image left out" in line for line in found.left_out)
    assert found.rankings[0].standings[0].images == 2
    rows = Results(run.store.url).to_pandas().sort_values("source_row")
    assert found.aligned.ids[:, 0].tolist() == rows["image_id"].tolist()[:2]


def test_rows_that_were_skipped_are_no_cell_and_failures_are_counted(make_job):
    rows = [*(f"p{n}" for n in range(4)), {"prompt": "bad", "height": -5}, {"prompt": None}, "fake:nan"]
    errors = {"bad_rows": "skip", "max_failed_fraction": 1.0}
    run = render(make_job(rows, errors=errors, sweep={"guidance_scale": [1.0, 2.0]}))
    score(run, lambda row: 1.0)
    found = compare([("run", run)])
    assert [(cell.name, cell.planned, cell.failed) for cell in found.cells] == [
        ("guidance_scale=1.0", 5, 1),
        ("guidance_scale=2.0", 5, 1),
    ]
    assert "run: 2 rows of the table could not be rendered." in found.left_out
    assert found.rankings[0].total == "subset 4/5"
    assert found.rankings[0].standings[0].bounds == pytest.approx((0.8, 1.0))


def test_seeds_that_differ_in_their_last_digits_are_not_one(make_job):
    run = render(
        make_job(
            [seeded(1, 2**60), seeded(1, 2**60 + 1), {"prompt": "bad", "height": -1}],
            errors={"bad_rows": "skip", "max_failed_fraction": 1.0},
        )
    )
    aligned = align([("run", run)])
    assert len(aligned.ids) == 2
    assert aligned.cells[0].repeated == 0


def test_a_whole_benchmark_has_its_name_by_its_own_scorer_only():
    """GenEval's 553 prompts with two images each, of one cell."""
    tags = FORMULAS["geneval"].categories
    prompts = pd.DataFrame({"category": [tag for tag, count in tags.items() for _ in range(count)]})
    ids = np.array([[f"image-{at}"] for at in range(1106)], object)
    aligned = Aligned(
        cells=(),
        prompts=prompts,
        prompt=np.repeat(np.arange(553), 2),
        seed=np.arange(1106),
        ids=ids,
        partnered=np.ones(1106, bool),
        by="prompt and seed",
        benchmark="geneval",
        skipped={},
    )
    values = np.ones((1106, 1))
    for scorer, source, title in (
        ("geneval", "results.jsonl", "geneval"),
        ("geneval-like", None, "all 553 prompts"),
        ("clip", "scores.csv", "all 553 prompts"),
    ):
        about = About(scorer=scorer, version="1", source=source, **SCALE)
        assert Scored(aligned, about, values).title == title
    values[7] = np.nan
    assert Scored(aligned, About(scorer="geneval", version="1", source="x"), values).title == "subset 552/553"


def test_an_image_without_a_score_takes_its_prompt_out_everywhere(swept):
    lost = Results(swept.store.url).to_pandas().query("prompt == 'p7' and guidance_scale == 1.0")["image_id"].iloc[0]
    score(swept, lambda row: None if row["image_id"] == lost else float(chance(row) < 0.5), "half")
    found = compare([("run", swept)], ["half"])
    (ranking,) = found.rankings
    assert ranking.total == "subset 11/12"
    assert {one.n for one in ranking.standings} == {11}
    assert [one.unscored for one in ranking.standings] == [0, 1, 0]
    assert [one.bounds is None for one in ranking.standings] == [True, False, True]
    low, high = ranking.standings[1].bounds
    assert high - low == pytest.approx(0.5 / 12)  # one of two images of one of 12 prompts
    assert any("11 of 12 prompts" in line for line in found.left_out)


def test_a_run_that_is_not_finished_lacks_scores_and_not_partners(make_job):
    job = make_job([f"p{n}" for n in range(8)], output={"images_per_shard": 2}, sweep={"guidance_scale": [1.0, 2.0]})
    run = render(job)
    score(run, lambda row: 1.0)
    run.store.delete("_SUCCESS")
    shard = Results(run.store.url).to_pandas()["file"].iloc[0]
    run.store.delete(shard)
    found = compare([("run", run)])
    assert [cell.unpartnered for cell in found.cells] == [0, 0]
    assert found.rankings[0].total == "all 8 prompts"  # scores are known, wherever the pictures are
    assert sum(cell.planned for cell in found.cells) == 16


def test_a_selection_is_compared_by_what_both_cells_have(swept):
    frame = Results(swept.store.url).to_pandas()
    kept = frame[(frame["prompt"] != "p3") | (frame["guidance_scale"] == 7.0)]
    found = compare([("run", swept)], selection=set(kept["image_id"]))
    assert found.rankings[0].total == "subset 11/12"
    assert found.aligned.partnered.sum() == 22


def test_two_cells_of_equal_scores_are_not_told_apart(swept):
    score(swept, lambda row: 1.0, "content")
    (ranking,) = compare([("run", swept)], ["content"]).rankings
    assert set(ranking.best) == {cell.name for cell in compare([("run", swept)]).cells}
    assert [one.p_holm for one in ranking.differences] == [1.0, 1.0]
    first = ranking.standings[0]
    assert first.interval.high == 1.0
    assert first.interval.low < 0.8  # twelve prompts do not prove that all are right
    assert ranking.differences[0].interval.low < 0 < ranking.differences[0].interval.high


def test_all_that_is_in_the_way_is_said_at_once(make_job, swept):
    other = render(make_job(["something else"], out="other"))
    score(other, lambda row: 1.0, version="2")
    with pytest.raises(Refused) as refused:
        compare([("run", swept), ("run", other)], ["oracle"], "guidance_scale=4")
    assert "Several runs are called run" in str(refused.value)
    assert "version '1' and '2'" in str(refused.value)
    assert "no prompt in common" in str(refused.value)


def test_runs_of_other_seeds_cannot_be_paired(make_job):
    runs = [render(make_job([seeded(1, seed)], out=name)) for name, seed in (("a", 1), ("b", 2))]
    with pytest.raises(Refused, match="1 prompts are in all, but none with the same seed"):
        align([("a", runs[0]), ("b", runs[1])])


def test_an_unknown_baseline_or_scorer_is_told_what_there_is(swept):
    with pytest.raises(Refused, match=r"baseline 'guidance_scale=4' is none of: guidance_scale=4.5, .*Did you mean"):
        compare([("run", swept)], baseline="guidance_scale=4")
    with pytest.raises(Refused, match="has no scores of clip; there are oracle"):
        compare([("run", swept)], ["clip"])
    with pytest.raises(Refused, match="choose one"):
        compare([("run", swept)], baseline="guidance_scale=4.5", all_pairs=True)


def test_a_run_without_scores_is_refused(make_job):
    run = render(make_job(["p"]))
    with pytest.raises(Refused, match=r"No scorer has scored all runs .*none"):
        compare([("run", run)])


def test_the_same_scores_give_the_same_numbers(swept):
    first, second = (compare([("run", swept)]).rankings for _ in range(2))
    assert first == second


def test_a_cell_of_one_image_a_prompt_has_mcnemars_test(make_job):
    run = render(make_job([f"p{n}" for n in range(30)], sweep={"guidance_scale": [1.0, 4.0]}))
    score(run, lambda row: float(chance(row) < row["guidance_scale"] / 5))
    (difference,) = compare([("run", run)]).rankings[0].differences
    assert difference.test == "exact McNemar"
    assert difference.seeds is None
    rows = pd.DataFrame(Results(run.store.url).to_pandas())
    better = sum(0.2 <= chance(row) < 0.8 for row in rows.query("guidance_scale == 4.0").to_dict("records"))
    assert difference.p == pytest.approx(min(1.0, 2 * 0.5**better))


def test_an_interaction_is_a_difference_of_differences(make_job):
    """More guidance helps with many steps only."""
    sweep = {"guidance_scale": [1.0, 4.0], "num_inference_steps": [2, 8]}
    run = render(make_job([f"p{n}" for n in range(40)], sweep=sweep, sampling={"num_images_per_prompt": 2}))
    score(
        run, lambda row: float(chance(row) < (0.8 if row["guidance_scale"] * row["num_inference_steps"] > 20 else 0.3))
    )
    found = compare([("run", run)])
    few, many = (
        tuple(f"num_inference_steps={steps},guidance_scale={guidance}" for guidance in (1.0, 4.0)) for steps in (2, 8)
    )
    one = interaction(found, "oracle", many, few)
    value = {cell.cell: cell.value for cell in found.rankings[0].standings}
    assert one.value == pytest.approx(value[many[1]] - value[many[0]] - value[few[1]] + value[few[0]])
    rows = Results(run.store.url).to_pandas()
    means = rows.assign(right=[0.3 <= chance(row) < 0.8 for row in rows.to_dict("records")])
    means = means[means["cell"] == many[0]].groupby("prompt")["right"].mean()
    assert one.stderr == pytest.approx(means.std(ddof=1) / np.sqrt(40))
    assert one.interval.low > 0
    assert one.decided
    assert interaction(found, "oracle", few, few).p == 1.0
    with pytest.raises(Refused, match="fast: no such cell; there are"):
        interaction(found, "oracle", few, (few[0], "fast"))


def test_a_sweep_of_two_settings_tells_their_interaction(scored):
    """By the fixture's scores a prompt gains the same everywhere: an interaction of 0, of the four corners."""
    run = scored(sweep={"guidance_scale": [1.0, 3.0, 4.5], "num_inference_steps": [4, 28]})
    (ranking,) = compare([("run", run)]).rankings
    (one,) = ranking.interactions
    assert one.value == pytest.approx(0.0)
    assert ("guidance_scale=4.5" in one.cell, "guidance_scale=1.0" in one.against) == (True, True)
    assert "oracle: interaction" in [table.title for table in tables(compare([("run", run)]))]
    for sweep in (
        {"guidance_scale": [1.0, 4.5]},
        {"zip": {"guidance_scale": [1.0, 4.5], "num_inference_steps": [4, 28]}},
    ):
        (ranking,) = compare(
            [("run", scored(out=f"run-{len(sweep['zip']) if 'zip' in sweep else 1}", sweep=sweep))]
        ).rankings
        assert ranking.interactions == ()
