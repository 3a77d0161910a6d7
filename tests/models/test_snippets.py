"""`batchgen show` prints diffusers code that draws the same picture, or says what differs."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import save_file

import batchgen
from batchgen.look import show
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here
from tests.models.test_adapters import lora

ROW = {"prompt": "a red circle left of a blue square", "height": 64, "width": 96}
WAYS = {
    "plain": {},
    "negatives": {"rows": {"negative_prompt": "grey", "negative_prompt_2": "a star", "negative_prompt_3": "two"}},
    "skip layers": {"sampling": {"skip_layer_guidance_scale": 2.0, "skip_layer_guidance_stop": 0.6}},
    "schedule": {"sampling": {"schedule": "beta"}},
    "shift": {"sampling": {"shift": 1.5}},
    "sigmas": {"sampling": {"sigmas": [1.0, 0.8, 0.5, 0.2], "shift": 1.0}},
    "adapter": {"rows": {"adapter": "ink"}},
    "refine on levels": {
        "sampling": {"sigmas": [1.0, 0.8, 0.5, 0.2], "shift": 2.0},
        "refine": {"scale": 1.25, "strength": 0.5, "num_inference_steps": 4},
    },
    "refine": {"refine": {"scale": 1.5, "strength": 0.5, "num_inference_steps": 4}},
}


def row_of(job):
    """Render a job of one row in this process; its row of the metadata and its picture."""
    prepared = prepare(job)
    run, _ = make_plan(prepared)
    render_here(run)
    results = batchgen.open(job.output.path)
    row = results.row(results.to_pandas()["image_id"][0])
    return row, np.asarray(results.image(row["image_id"])).astype(int)


@pytest.mark.parametrize("way", WAYS)
def test_the_snippet_draws_the_same_picture(make_job, tmp_path, one_thread, way):
    sections = dict(WAYS[way])
    rows = ROW | sections.pop("rows", {})
    save_file(lora(1), tmp_path / "ink.safetensors")
    adapters = {"ink": {"path": str(tmp_path / "ink.safetensors"), "scale": 0.7}}
    sampling = {"num_inference_steps": 4} | sections.pop("sampling", {})
    row, ours = row_of(make_job([rows], model={"preset": "demo", "adapters": adapters}, sampling=sampling, **sections))
    code = show.snippet(row)
    assert "# rendered" not in code
    names = {}
    exec(code, names)
    theirs = np.asarray(names["image"]).astype(int)
    assert theirs.shape == ours.shape == (row["image_height"], row["image_width"], 3)
    assert np.abs(theirs - ours).max() <= 1


def test_what_diffusers_cannot_do_is_said(make_job, one_thread):
    sampling = {"num_inference_steps": 4, "sampler": "dpmpp_2m", "guidance_stop": 0.5}
    row, _ = row_of(make_job([ROW], model={"preset": "demo"}, sampling=sampling))
    code = show.snippet(row)
    compile(code, "snippet", "exec")
    assert "# rendered with the sampler dpmpp_2m, which this pipeline does not have" in code
    assert "# rendered with guidance from 0 to 0.5 of the steps only" in code
