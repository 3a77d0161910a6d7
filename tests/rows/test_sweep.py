"""What cells of a sweep say becomes columns, names and buckets of image rows, and leaves runs without it alone."""

import pytest

from batchgen import columns
from batchgen.errors import Refused, RunMismatch
from batchgen.plan.graph import expanded, make_plan, survey
from batchgen.plan.preflight import prepare
from batchgen.run import rules
from batchgen.run.directory import Run
from batchgen.storage.store import Store
from tests.in_process import render_here

LOOP = {"height": 32, "width": 32, "num_inference_steps": 20}


@pytest.fixture
def rows_of(make_job):
    def of(rows=("a",), **sections):
        prepared = prepare(make_job(rows, **{"sampling": LOOP} | sections))
        return [row for _, table in expanded(prepared) for row in table.to_pylist()]

    return of


def test_a_swept_setting_is_a_column_and_part_of_the_bucket(rows_of):
    rows = rows_of(sweep={"sampler": ["euler", "dpmpp_2m"], "skip_guidance_layers": [[1, 2]]})
    assert [(row["sampler"], row["skip_guidance_layers"]) for row in rows] == [("euler", "1,2"), ("dpmpp_2m", "1,2")]
    assert rows[0]["bucket"].endswith(" sampler=euler skip_guidance_layers=1,2")
    assert len({row["bucket"] for row in rows}) == len({row["image_id"] for row in rows}) == 2
    assert len({row["seed"] for row in rows}) == 1
    assert "shift" not in rows[0]


def test_without_a_sweep_no_run_has_these_columns_and_a_tables_own_are_its_own(rows_of, make_job):
    assert not {*columns.OF_CELLS} & {*rows_of()[0]}
    run = render_here(make_plan(prepare(make_job([{"prompt": "a", "sampler": "mine", "shift": "x"}])))[0])
    rows = [row for shard in run.shards(run.plans[0]) for row in run.rows(run.plans[0], shard).to_pylist()]
    assert [(row["sampler"], row["shift"]) for row in rows] == [("mine", "x")]


def test_a_column_of_the_table_that_is_swept_too_is_refused(rows_of):
    with pytest.raises(Refused, match="is swept, but the manifest has a column sampler too"):
        rows_of([{"prompt": "a", "sampler": "mine"}], sweep={"sampler": ["euler"]})


def test_a_window_without_a_step_names_its_cell(rows_of):
    with pytest.raises(Refused, match=r"cell skip_layer_guidance_stop=0.05: skip-layer guidance, from 0.01 to 0.05"):
        rows_of(sampling=LOOP | {"skip_layer_guidance_scale": 2.0}, sweep={"skip_layer_guidance_stop": [0.05, 0.5]})
    (row,) = rows_of([{"prompt": "a", "num_inference_steps": 2}], sweep={"guidance_stop": [0.3, 1.0]})
    assert "holds none of the 2 steps" in row["skip_message"]  # a row's own steps, in one cell of two


def test_a_cell_is_named_as_a_job_that_says_it_but_for_the_cell(rows_of):
    """What decides an image is the same: only the cell's own name is added to it."""
    swept = rows_of(sweep={"schedule": ["normal", "simple"]})
    assert rows_of(sweep={"schedule": ["simple"]})[0]["image_id"] == swept[1]["image_id"]
    assert len({row["image_id"] for row in swept}) == 2


def test_the_levels_of_simple_are_todays_in_every_run_that_may_come_to_it(make_job):
    prepared = prepare(make_job(["a"], sampling=LOOP, sweep={"schedule": ["normal", "beta"]}))
    assert prepared.facts.rules[rules.SIMPLE] == rules.NOW
    named = {name: cell.decides for name, cell in prepared.expansion.cells.items()}
    assert not any("rule: levels of simple" in decides for decides in named.values())


def test_a_value_more_is_an_extension(make_job):
    first = {"sampling": LOOP, "sweep": {"shift": [1.0, 3.0]}}
    run = render_here(make_plan(prepare(make_job(["a"], **first)))[0])
    more = make_job(["a"], **first | {"sweep": {"shift": [1.0, 3.0, 6.0]}})
    run, summary = make_plan(prepare(more, extend=True))
    assert summary.images == 1
    assert len(render_here(Run.open(run.store)).plans) == 2


def test_cells_are_shown_in_the_jobs_order(make_job, console):
    from batchgen import report

    prepared = prepare(make_job(["a"], sampling=LOOP, sweep={"guidance_scale": [10.0, 2.0, 4.5]}))
    report.print_plan(console, prepared, survey(prepared), [])
    assert "guidance_scale=10.0: 1, guidance_scale=2.0: 1, guidance_scale=4.5: 1" in console.file.getvalue()


def test_settings_that_a_sweep_says_in_vain_are_told(make_job):
    off = LOOP | {"guidance_scale": 1.0}
    notices = prepare(make_job(["a"], sampling=off, sweep={"guidance_stop": [0.5, 1.0]})).notices
    assert "sweep.guidance_stop changes no image: guidance_scale is not above 1." in notices
    notices = prepare(make_job(["a"], sampling=LOOP, sweep={"skip_layer_guidance_stop": [0.5, 1.0]})).notices
    assert "sweep.skip_layer_guidance_stop changes no image: skip_layer_guidance_scale is 0." in notices
    notices = prepare(make_job(["a"], sampling=LOOP, sweep={"skip_guidance_layers": [[1], [2]]})).notices
    assert "sweep.skip_guidance_layers changes no image: skip_layer_guidance_scale is 0." in notices
    assert not any("skip" in notice for notice in prepare(make_job(["a"], sampling=LOOP)).notices)


def test_rendered_again_from_its_row(make_job):
    from batchgen.look import again, doctor

    run = render_here(make_plan(prepare(make_job(["a"], sampling=LOOP, sweep={"sampler": ["euler", "dpmpp_2m"]})))[0])
    again.rerender(Run.open(Store.open(run.store.url)), 2, report := doctor.Report())
    assert (report.rerendered, report.problems) == (2, [])


# --- prompts

TWO = [
    {"prompt": "a cat", "rewritten_prompt": "a tabby cat on a sofa", "id": "1", "place": "Rome"},
    {"prompt": "a dog", "rewritten_prompt": "a hound in the snow", "id": "2", "place": "Oslo"},
]


def test_a_prompt_is_a_column_or_a_template(rows_of):
    sweep = {
        "prompt": ["prompt", "rewritten_prompt", "{prompt} in {place}, {{studio}} photo"],
        "guidance_scale": [1, 4],
    }
    rows = rows_of(TWO, sweep=sweep)
    assert [row["prompt"] for row in rows if row["guidance_scale"] == 4] == [
        "a cat", "a tabby cat on a sofa", "a cat in Rome, {studio} photo",
        "a dog", "a hound in the snow", "a dog in Oslo, {studio} photo",
    ]  # fmt: skip
    assert {(row["prompt_id"], row["seed"], row["benchmark_prompt"]) for row in rows} == {
        ("1", rows[0]["seed"], "a cat"), ("2", rows[-1]["seed"], "a dog"),
    }  # fmt: skip
    assert [row["cell"] for row in rows[:2]] == [
        "guidance_scale=1.0,prompt=prompt",
        "guidance_scale=1.0,prompt=rewritten_prompt",
    ]
    assert len({row["image_id"] for row in rows}) == len(rows)
    assert rows[0]["tokens_clip_l"] < rows[1]["tokens_clip_l"]  # each prompt is counted for itself
    assert len({row["bucket"] for row in rows if row["guidance_scale"] == 4}) == 1


def test_only_a_run_that_sweeps_prompts_has_another_one(rows_of):
    assert "benchmark_prompt" not in rows_of(TWO)[0]
    own = [row | {"benchmark_prompt": "mine"} for row in TWO]
    assert {row["benchmark_prompt"] for row in rows_of(own, sweep={"prompt": ["{prompt}, ink"]})} == {"mine"}


def test_a_row_without_the_text_is_complained_about(rows_of):
    rows = [
        TWO[0],
        TWO[1] | {"rewritten_prompt": " "},
        {"prompt": "a fox", "id": "3", "rewritten_prompt": "x" * 20_001},
    ]
    found = rows_of(rows, sweep={"prompt": ["prompt", "rewritten_prompt"]})
    assert [row["skip_code"] for row in found] == [None, None, "EMPTY_PROMPT", "PROMPT_TOO_LONG"]
    assert "column rewritten_prompt is empty, and sweep.prompt makes a prompt of it" in found[2]["skip_message"]
    assert found[2]["benchmark_prompt"] == "a dog"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rewriten_prompt", "no text column 'rewriten_prompt'. Did you mean rewritten_prompt? There are: prompt, "),
        ("{promt}", "no text column 'promt'. Did you mean prompt?"),
        ("{prompt", "is no template"),
        ("{prompt:>9}", "between braces stands the name of a column and no more"),
        ("{}", "between braces stands the name of a column"),
        ("{{x}}", "names no column: all rows would have the same"),
    ],
)
def test_a_prompt_that_no_table_has_is_refused(rows_of, text, message):
    with pytest.raises(Refused) as refusal:
        rows_of(TWO, sweep={"prompt": ["prompt", text]})
    assert message in str(refusal.value)


def test_the_metadata_says_both_prompts(make_job):
    import batchgen

    run = render_here(
        make_plan(prepare(make_job(TWO, sampling=LOOP, sweep={"prompt": ["prompt", "{prompt}, ink"]})))[0]
    )
    frame = batchgen.open(run.store.url).to_pandas()
    assert sorted(zip(frame["benchmark_prompt"], frame["prompt"], strict=True)) == [
        ("a cat", "a cat"), ("a cat", "a cat, ink"), ("a dog", "a dog"), ("a dog", "a dog, ink"),
    ]  # fmt: skip
    assert frame["pixel_sha256"].nunique() == 4


# --- cells that are paired, or have names


def test_zip_pairs_its_lists_and_crosses_the_rest(rows_of):
    zipped = {"num_inference_steps": [10, 20], "sampler": ["dpmpp_2m", "euler"]}
    rows = rows_of(sweep={"guidance_scale": [4.0, 1.0], "zip": zipped})
    assert [row["cell"] for row in rows] == [
        "num_inference_steps=10,guidance_scale=4.0,sampler=dpmpp_2m",
        "num_inference_steps=20,guidance_scale=4.0,sampler=euler",
        "num_inference_steps=10,guidance_scale=1.0,sampler=dpmpp_2m",
        "num_inference_steps=20,guidance_scale=1.0,sampler=euler",
    ]
    assert [(row["num_inference_steps"], row["sampler"]) for row in rows[:2]] == [(10, "dpmpp_2m"), (20, "euler")]


def test_cells_have_names_and_what_they_do_not_say_is_the_jobs(rows_of):
    cells = {
        "usual": {},
        "fast": {"num_inference_steps": 10, "sampler": "dpmpp_2m"},
        "ink": {"prompt": "{prompt}, ink"},
    }
    rows = rows_of(sampling=LOOP | {"sampler": "euler_ancestral"}, sweep={"cells": cells})
    assert [(row["cell"], row["num_inference_steps"], row["sampler"], row["prompt"]) for row in rows] == [
        ("usual", 20, "euler_ancestral", "a"), ("fast", 10, "dpmpp_2m", "a"), ("ink", 20, "euler_ancestral", "a, ink"),
    ]  # fmt: skip
    assert len({row["seed"] for row in rows}) == 1


@pytest.mark.parametrize("sweep", [
    {"zip": {"guidance_scale": [1.0, 4.0], "shift": [1.0, 3.0]}},
    {"cells": {"z": {"shift": 1.0}, "a": {"skip_guidance_layers": [1]}}},
    {"prompt": ["prompt", "{prompt}, ink"], "sampler": ["euler", "dpmpp_2m"]},
])  # fmt: skip
def test_a_run_is_continued_by_its_job_and_knows_its_cells(make_job, sweep):
    job = make_job(["a", "b"], sampling=LOOP, sweep=sweep)
    run = render_here(make_plan(prepare(job))[0])
    again = prepare(job)
    assert again.run is not None
    assert not again.extends
    stored = Run.open(run.store).plans[0].job.sweep
    assert stored.by_cell() == job.sweep.by_cell()
    assert Run.open(run.store).cells == [*job.sweep.by_cell()]


def test_a_cell_more_is_an_extension_and_keeps_the_order_of_the_newest_job(make_job):
    cells = {"slow": {"num_inference_steps": 20}, "fast": {"num_inference_steps": 10}}
    run = render_here(make_plan(prepare(make_job(["a"], sampling=LOOP, sweep={"cells": cells})))[0])
    more = {"slow": cells["slow"], "middle": {"num_inference_steps": 15}, "fast": cells["fast"]}
    run, summary = make_plan(prepare(make_job(["a"], sampling=LOOP, sweep={"cells": more}), extend=True))
    assert summary.images == 1
    assert run.cells == ["slow", "middle", "fast"]
    render_here(run)
    cells["other"] = {"sampler": "dpmpp_2m"}  # the files of the run have no such column
    with pytest.raises(RunMismatch, match=r"differ \(sweep.sampler\).*Keep the table's columns and the settings"):
        make_plan(prepare(make_job(["a"], sampling=LOOP, sweep={"cells": cells}), extend=True))


def test_the_card_names_the_cells_in_the_jobs_order(make_job):
    from batchgen.finalize.card import dataset_card
    from batchgen.finalize.metadata import Totals

    sweep = {"cells": {"slow": {"num_inference_steps": 20}, "a|b": {"num_inference_steps": 10}}}
    run = make_plan(prepare(make_job(["a"], sampling=LOOP, sweep=sweep)))[0]
    assert "| cell | slow: 0 images |\n| cell | a\\|b: 0 images |\n" in dataset_card(run, Totals())
    assert "| cell |" not in dataset_card(make_plan(prepare(make_job(["a"], out="other")))[0], Totals())


# --- a second pass


def test_a_second_pass_is_on_and_off(make_job):
    import json

    import batchgen
    from batchgen.look import show

    refine = {"scale": 2.0, "strength": 0.5}
    job = make_job(["a"], sampling=LOOP, refine=refine, sweep={"refine": [True, False]})
    run, summary = make_plan(prepare(job))
    assert list(summary.cells) == ["refine=on", "refine=off"]
    assert [label.rpartition(" ")[2] for label in summary.buckets] == ["refine=on", "refine=off"]
    on, off = summary.buckets.values()
    assert (on.pixels, off.pixels) == (64 * 64, 32 * 32)
    assert on.tflop > off.tflop
    results = batchgen.open(render_here(run).store.url)
    frame = results.to_pandas().set_index("cell")
    assert frame["image_height"].to_dict() == {"refine=on": 64, "refine=off": 32}
    assert frame["refine"].to_dict() == {"refine=on": True, "refine=off": False}
    codes = {row["cell"]: show.snippet(row) for row in map(results.row, frame["image_id"])}
    assert "Img2Img" in codes["refine=on"]
    assert "Img2Img" not in codes["refine=off"]
    assert json.loads(results.row(frame["image_id"].iloc[0])["settings"])["swept"] == ["refine"]


def test_without_its_second_pass_a_cell_is_as_a_job_without_one(make_job, rows_of):
    refine = {"scale": 1.5, "strength": 0.5, "guidance_scale": 6.0, "model": {"preset": "demo"}}
    cell = rows_of(refine=refine, sweep={"refine": [False]}, sampling=LOOP | {"guidance_scale": 1.0})
    prepared = prepare(make_job(["a"], refine=refine, sampling=LOOP, sweep={"refine": [True, False]}))
    on, off = prepared.expansion.cells.values()
    assert off.decides == prepare(make_job(["a"], out="other", sampling=LOOP)).expansion.cells["default"].decides
    assert "refine" in on.decides
    assert (on.guided_again, off.guided_again) == (True, False)
    assert cell[0]["bucket"].endswith("refine=off")


@pytest.mark.parametrize("changed", [
    {"sampler": "dpmpp_2m"}, {"schedule": "simple"}, {"shift": 2.0}, {"guidance_start": 0.1}, {"guidance_stop": 0.9},
    {"negative_prompt_stop": 0.5}, {"skip_guidance_layers": [2]}, {"skip_layer_guidance_start": 0.1},
    {"skip_layer_guidance_stop": 0.5}, {"refine": False}, {"prompt": "{prompt}, ink"}, {"reuse": {"guidance_every": 2}},
], ids=str)  # fmt: skip
def test_another_cell_of_the_same_name_makes_other_images(rows_of, changed):
    """Else an extension would take a cell that was edited for the one that is there."""
    sections = {"refine": {}, "sampling": LOOP | {"skip_layer_guidance_scale": 2.0}}
    before, after = (rows_of(sweep={"cells": {"mine": said}}, **sections)[0] for said in ({}, changed))
    assert before["cell"] == after["cell"] == "mine"
    assert before["image_id"] != after["image_id"]
