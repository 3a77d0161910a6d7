"""`sampling.reuse` from the job file to the row: its schedule, its name, what it costs, and where it is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import batchgen
from batchgen import report
from batchgen.cost import estimate
from batchgen.errors import Refused, RunMismatch
from batchgen.job import Refine, Reuse
from batchgen.job.file import job_from
from batchgen.job.presets import PRESETS
from batchgen.job.steps import first_reused, guided_and_skipping, refine_reused
from batchgen.look import again, doctor, show
from batchgen.plan.graph import expanded, make_plan, survey
from batchgen.plan.preflight import prepare
from batchgen.rows import buckets
from batchgen.rows.buckets import Bucket
from batchgen.run.directory import Run
from tests.in_process import render_here

SAMPLING = job_from({"input": {"path": "p.jsonl"}, "output": {"path": "out"}}).sampling
SMALL = {"height": 32, "width": 32, "num_inference_steps": 20}
ON = {"blocks_every": 2, "guidance_every": 2}
SHARE = st.sampled_from([tenth / 10 for tenth in range(11)])


def of(**reuse):
    return SAMPLING.model_copy(update={"reuse": Reuse(**reuse)})


# --- which steps


def test_a_schedule_by_step():
    found = first_reused(of(blocks_every=2), 10, is_guided=True, skips_layers=False)
    assert (found.blocks, found.guidance, found.saved) == ({3, 5, 7, 9}, frozenset(), 8)
    found = first_reused(of(blocks_every=3, start=0.0, stop=0.7), 10, is_guided=False, skips_layers=False)
    assert (found.blocks, found.saved) == ({1, 2, 4, 5}, 4)
    found = first_reused(of(guidance_every=3), 10, is_guided=True, skips_layers=False)
    assert (found.blocks, found.guidance, found.saved) == (frozenset(), {3, 4, 6, 7, 9}, 5)


def test_it_is_counted_anew_where_another_kind_of_step_begins():
    """Skip-layer guidance ends before step 4 of 20, guidance and the negative prompt where they are told to."""
    blocks = of(blocks_every=3, start=0.0)
    found = first_reused(blocks, 20, is_guided=True, skips_layers=True)
    assert found.blocks == {2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18}
    changed = blocks.model_copy(update={"guidance_start": 0.25, "negative_prompt_stop": 0.5, "guidance_stop": 0.8})
    found = first_reused(changed, 20, is_guided=True, skips_layers=False)
    assert found.blocks == {1, 2, 4, 6, 7, 9, 11, 12, 14, 15, 17, 18}


def test_a_step_that_reuses_blocks_has_the_guidance_of_the_step_that_computed_them():
    found = first_reused(of(**ON, start=0.0), 8, is_guided=True, skips_layers=False)
    assert (found.blocks, found.guidance, found.saved) == ({1, 3, 5, 7}, {2, 3, 6, 7}, 10)  # of 16


def test_a_second_pass_counts_its_own_steps():
    refine = Refine(strength=0.5, num_inference_steps=8)
    found = refine_reused(refine, of(blocks_every=2, start=0.75))
    assert (found.blocks, found.saved) == ({7}, 2)
    assert refine_reused(refine, of(blocks_every=2)).blocks == {5, 7}


@given(
    st.integers(1, 60), st.integers(1, 5), st.integers(1, 5), *[st.tuples(SHARE, SHARE)] * 3, SHARE,
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_what_is_taken_over_was_computed_for_the_same(
    steps, blocks_every, guidance_every, window, guidance, skipped, read, guided, skips
):
    """Told step by step by what a renderer remembers, and every pass counted."""
    reuse = Reuse.model_construct(
        blocks_every=blocks_every, guidance_every=guidance_every, start=min(window), stop=max(window)
    )
    changes = {"guidance_start": min(guidance), "guidance_stop": max(guidance), "negative_prompt_stop": read}
    changes |= {"skip_layer_guidance_start": min(skipped), "skip_layer_guidance_stop": max(skipped)}
    sampling = SAMPLING.model_copy(update=changes | {"reuse": reuse})
    found = first_reused(sampling, steps, is_guided=guided, skips_layers=skips)
    guided_steps, skipping_steps = guided_and_skipping(steps, sampling)
    remembered, saved, saved_skipping = None, 0, 0
    for step in range(steps):
        is_guided, skipping = guided and step in guided_steps, skips and guided and step in skipping_steps
        halves = 1 + is_guided
        if step in found.guidance:
            assert is_guided
            halves = 1
        kind = is_guided, skipping, is_guided and step < int(read * steps)
        if step in found.blocks:
            assert remembered == (kind, halves)
            saved, saved_skipping = saved + 1 + is_guided, saved_skipping + skipping
        else:
            assert halves == 1 + is_guided or remembered[0] == kind
            saved += is_guided and halves == 1
        if found.blocks.union(found.guidance).intersection([step]):
            assert int(reuse.start * steps) <= step < int(reuse.stop * steps)
        remembered = kind, halves
    assert (found.saved, found.saved_skipping) == (saved, saved_skipping)


# --- its name, in a run that sweeps it


@pytest.mark.parametrize("said", [{}, {"blocks_every": 2}, {"guidance_every": 3, "start": 0, "stop": 0.123456789}])
def test_its_text_is_read_again(said):
    reuse = Reuse(**said)
    assert (
        Reuse.of(str(reuse)) == Reuse.of(reuse.model_dump()) == Reuse.of(json.loads(reuse.model_dump_json())) == reuse
    )
    assert reuse.model_dump() == said


def test_swept_it_is_a_column_and_a_cell_and_is_rendered_again(make_job):
    sweep = {"reuse": [{}, {"blocks_every": 2}], "shift": [1.0]}
    run = render_here(make_plan(prepare(make_job(["a"], sampling=SMALL, sweep=sweep)))[0])
    frame = batchgen.open(run.store.url).to_pandas().set_index("cell")
    assert frame["reuse"].to_dict() == {
        "shift=1.0,reuse=none": "none",
        "shift=1.0,reuse=blocks_every:2": "blocks_every:2",
    }
    assert frame["pixel_sha256"].nunique() == 2
    stored = Run.open(run.store)
    assert stored.plans[0].job.sweep.by_cell() == make_job(["a"], sweep=sweep).sweep.by_cell()
    again.rerender(stored, 2, found := doctor.Report())
    assert (found.rerendered, found.problems) == (2, [])
    codes = [show.snippet(batchgen.open(run.store.url).row(name)) for name in frame["image_id"]]
    assert [("here every step computes everything" in code) for code in codes] == [False, True]
    more = {"reuse": [{}, {"blocks_every": 2}, {"blocks_every": 3}], "shift": [1.0]}
    assert make_plan(prepare(make_job(["a"], sampling=SMALL, sweep=more), extend=True))[1].images == 1


def test_named_cells_say_it_too(make_job):
    cells = {"usual": {}, "quick": {"reuse": ON}}
    job = make_job(["a"], sampling=SMALL, sweep={"cells": cells})
    prepared = prepare(job)
    rows = [row for _, table in expanded(prepared) for row in table.to_pylist()]
    assert [row["reuse"] for row in rows] == ["none", "blocks_every:2,guidance_every:2"]
    run = render_here(make_plan(prepared)[0])
    assert Run.open(run.store).plans[0].job.sweep.by_cell()["quick"]["reuse"] == Reuse(**ON)


# --- the run


def test_a_run_without_it_has_the_facts_of_before(make_job):
    plain, none, some = (prepare(make_job(["a"], sampling=SMALL | said)) for said in ({}, {"reuse": {}}, {"reuse": ON}))
    assert plain.fingerprint == none.fingerprint != some.fingerprint
    assert "sampling.reuse" not in plain.facts.to_dict()
    assert some.facts.to_dict()["sampling.reuse"] == ON
    assert "reuse" not in plain.expansion.cells["default"].decides
    assert plain.facts.for_speed() != some.facts.for_speed()


def test_a_run_is_not_continued_with_another(make_job):
    run = render_here(make_plan(prepare(make_job(["a"], sampling=SMALL | {"reuse": ON})))[0])
    row = batchgen.open(run.store.url).row(batchgen.open(run.store.url).to_pandas()["image_id"][0])
    assert "rendered with sampling.reuse blocks_every:2,guidance_every:2" in show.snippet(row)
    assert prepare(make_job(["a"], sampling=SMALL | {"reuse": ON})).run is not None
    with pytest.raises(RunMismatch, match=r"sampling\.reuse"):
        prepare(make_job(["a"], sampling=SMALL), extend=True)


def test_engine_diffusers_has_none():
    sections = {"input": {"path": "a"}, "output": {"path": "b"}, "model": {"engine": "diffusers"}}
    with pytest.raises(Refused, match=r"does not give sampling\.reuse"):
        job_from(sections | {"sampling": {"reuse": ON}})
    with pytest.raises(Refused, match=r"does not give sweep\.reuse"):
        job_from(sections | {"sweep": {"reuse": [{}, ON]}})


@pytest.mark.parametrize(
    ("reuse", "says"),
    [
        ({"blocks_every": 0}, "greater than or equal to 1"),
        ({"blocks_every": 2, "start": 0.9, "stop": 0.1}, "start is larger than stop"),
        ({"start": 0.5}, "start and stop change nothing alone: write blocks_every: 2 or guidance_every: 2 too"),
        ({"block_every": 2}, "blocks_every"),
    ],
)
def test_mistakes_in_it(make_job, reuse, says):
    with pytest.raises(Refused, match=says):
        make_job(["a"], sampling={"reuse": reuse})


def test_where_nothing_is_reused_it_is_refused_and_the_hint_helps(make_job):
    short = SMALL | {"num_inference_steps": 4}
    with pytest.raises(Refused, match=r"sampling: reuse: blocks_every takes nothing over in 4 steps, from 0.2 to 0.4"):
        prepare(make_job(["a"], sampling=short | {"reuse": {"blocks_every": 2, "stop": 0.4}}))
    with pytest.raises(Refused, match=r"sweep: cell num_inference_steps=1: reuse: guidance_every takes nothing"):
        prepare(make_job(["a"], sampling=SMALL | {"reuse": {"guidance_every": 4}}, sweep={"num_inference_steps": [1]}))
    assert prepare(make_job(["a"], sampling=short | {"reuse": {"blocks_every": 2}}))
    refined = {"num_inference_steps": 20, "strength": 0.5}
    assert prepare(make_job(["a"], sampling=short | {"reuse": {"blocks_every": 2, "start": 0.8}}, refine=refined))
    rows = [{"prompt": "a", "num_inference_steps": 1}]
    assert survey(prepare(make_job(rows, sampling=SMALL | {"reuse": {"blocks_every": 2}}))).images == 1


def test_guidance_that_is_off_is_told(make_job):
    off = SMALL | {"guidance_scale": 1.0, "reuse": {"guidance_every": 2}}
    assert any(
        "reuse.guidance_every changes no image" in notice for notice in prepare(make_job(["a"], sampling=off)).notices
    )
    refined = prepare(make_job(["a"], sampling=off, refine={"num_inference_steps": 20}))
    assert not any("reuse" in notice for notice in refined.notices)


def test_cells_without_guidance_are_told_of_halves_that_are_not_there(make_job):
    sweep = {"guidance_scale": [1.0, 4.5], "reuse": [{}, {"guidance_every": 2}]}
    (notice,) = prepare(make_job(["a"], sampling=SMALL, sweep=sweep)).notices
    assert "reuse.guidance_every: 2 changes no image of cell guidance_scale=1.0,reuse=guidance_every:2" in notice


def test_one_step_is_told_to_leave_it_out(make_job):
    with pytest.raises(Refused, match="where there is one step: leave it out"):
        prepare(make_job(["a"], sampling=SMALL | {"num_inference_steps": 1, "reuse": ON}))


# --- what it costs


def test_an_image_costs_what_is_computed():
    medium = PRESETS["sd3.5-medium"]

    def tflop(sampling, skip=0.0):
        key = Bucket.of(
            sampling, height=1024, width=1024, num_inference_steps=40, guidance_scale=4.5,
            skip_layer_guidance_scale=skip, max_sequence_length=256,
        )  # fmt: skip
        return buckets.image_tflop(medium, key)

    forward = buckets.forward_tflop(medium, 1024, 1024, 256)
    skipping = buckets.forward_tflop(medium, 1024, 1024, 256, skipped=3)
    assert tflop(of()) - tflop(of(blocks_every=2)) == pytest.approx(2 * 16 * forward)
    assert tflop(of()) - tflop(of(guidance_every=2)) == pytest.approx(16 * forward)
    # in steps 1 to 7 of the skip-layer window, 2, 4 and 6 take over; then every second of 32
    assert tflop(of(), 2.8) - tflop(of(blocks_every=2, start=0.0), 2.8) == pytest.approx(38 * forward + 3 * skipping)


def test_plan_says_what_is_left_out(make_job, console):
    job = make_job(["a", "b"], sampling=SMALL | {"reuse": {"blocks_every": 2}}, refine={"num_inference_steps": 20})
    prepared = prepare(job)
    summary = survey(prepared)
    report.print_plan(console, prepared, summary, estimate.lines(job, summary, None, "job.yaml"))
    # 8 of 20 steps, and 4 of the last 8 of 20
    assert "sampling.reuse leaves out 43% of all passes through the transformer's blocks" in console.file.getvalue()
    plain = survey(prepare(make_job(["a", "b"], sampling=SMALL, refine={"num_inference_steps": 20})))
    assert summary.tflop < 0.7 * plain.tflop
    assert not any("reuse" in line for line in estimate.lines(job, plain, None, "job.yaml"))
