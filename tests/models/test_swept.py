"""What a cell of a sweep says of the loop draws the very pixels of a job that says it in `sampling`."""

import json

import pyarrow as pa
import pytest

from batchgen.engines import load_renderer
from batchgen.job.file import job_from
from batchgen.look import show
from batchgen.plan.graph import expanded, make_plan
from batchgen.plan.preflight import prepare
from batchgen.rendering.attempt import image_rows
from batchgen.weights.spec import ModelSpec
from tests.in_process import render_here

LOOP = {
    "height": 32,
    "width": 32,
    "num_inference_steps": 6,
    "skip_layer_guidance_scale": 2.0,
    "skip_layer_guidance_stop": 0.7,
}
SWEPT = [
    {"sampler": ["euler", "dpmpp_2m", "euler_ancestral"]},
    {"schedule": ["normal", "simple", "sgm_uniform", "beta"]},
    {"shift": [1.0, 6.0]},
    {"guidance_start": [0.0, 0.5], "guidance_stop": [0.7, 1.0]},
    {"negative_prompt_stop": [1.0, 0.5]},
    {"skip_guidance_layers": [[0], [1, 2]]},
    {"reuse": [{}, {"blocks_every": 2}, {"guidance_every": 2}]},
    {"skip_layer_guidance_start": [0.01, 0.3], "skip_layer_guidance_stop": [0.5, 0.9]},
]


@pytest.fixture
def prepared(tmp_path):
    """prepared(sampling, sweep): a job on the demo checkpoint with one prompt."""
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a red circle", "id": "a", "negative_prompt": "blue"}))

    def of(sampling, **sections):
        values = {
            "input": {"path": str(tmp_path / "a.jsonl")},
            "model": {"preset": "demo"},
            "sampling": LOOP | sampling,
            "output": {"path": str(tmp_path / "run")},
        }
        return prepare(job_from(values | sections))

    return of


def rows_of(prepared):
    return image_rows(pa.concat_tables([table for _, table in expanded(prepared)]), prepared.job)


def drawn(renderer, row):
    """In a batch of two, as neighbours of one bucket are."""
    latents = renderer.denoise([row, row], renderer.encode([row, row]))
    return renderer.decode(latents, [0])[0].tobytes(), renderer.sigmas(row)


@pytest.mark.parametrize("sweep", SWEPT, ids=lambda sweep: "-".join(sweep))
def test_a_cell_draws_what_a_job_draws(prepared, sweep):
    whole = prepared({}, sweep=sweep)
    renderer = load_renderer(ModelSpec.of(whole.model, whole.job, whole.facts.rules))
    cells, seen = whole.job.sweep.by_cell(), set()
    for row, values in zip(rows_of(whole), cells.values(), strict=True):
        alone = prepared(values)
        (same,) = rows_of(alone)
        theirs = load_renderer(ModelSpec.of(alone.model, alone.job, alone.facts.rules))
        pixels, levels = drawn(renderer, row)
        assert (pixels, levels) == drawn(theirs, same)
        assert row.seed == same.seed
        seen.add(pixels)
    assert len(seen) == len(cells)


def test_a_batch_of_two_cells_is_no_batch(prepared):
    whole = prepared({}, sweep={"sampler": ["euler", "dpmpp_2m"]})
    renderer = load_renderer(ModelSpec.of(whole.model, whole.job, whole.facts.rules))
    with pytest.raises(ValueError, match="differ in sampling"):
        renderer.denoise(rows_of(whole), renderer.encode(rows_of(whole)))


def test_a_run_records_what_was_used_and_shows_its_code(prepared):
    run, summary = make_plan(prepared({}, sweep={"sampler": ["euler", "dpmpp_2m"], "shift": [3.0, 1.0]}))
    render_here(run)
    import batchgen

    results = batchgen.open(str(run.store))
    frame = results.to_pandas()
    assert sorted(zip(frame["sampler"], frame["shift"], strict=True)) == [
        ("dpmpp_2m", 1.0), ("dpmpp_2m", 3.0), ("euler", 1.0), ("euler", 3.0),
    ]  # fmt: skip
    assert len(summary.buckets) == frame["pixel_sha256"].nunique() == 4
    for row in map(results.row, frame["image_id"]):
        assert ("the sampler dpmpp_2m" in show.snippet(row)) == (row["sampler"] == "dpmpp_2m")
        assert f"sampler: {row['sampler']}" in {f"{name}: {value}" for name, value in show.facts(row)}


@pytest.mark.parametrize("model", [None, {"preset": "demo"}], ids=["same", "another"])
def test_a_cell_with_and_without_a_second_pass_draws_what_a_job_draws(prepared, model):
    refine = {"scale": 1.5, "strength": 0.5, "num_inference_steps": 4} | ({"model": model} if model else {})
    whole = prepared({}, refine=refine, sweep={"refine": [True, False]})
    renderer = load_renderer(ModelSpec.of(whole.model, whole.job, whole.facts.rules))
    for row, section in zip(rows_of(whole), ({"refine": refine}, {}), strict=True):
        alone = prepared({}, **section)
        (same,) = rows_of(alone)
        assert drawn(renderer, row) == drawn(load_renderer(ModelSpec.of(alone.model, alone.job)), same)
    with pytest.raises(ValueError, match="differ in refine"):
        renderer.denoise(rows_of(whole), [*renderer.encode(rows_of(whole)[:1])] * 2)
