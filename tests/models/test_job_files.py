"""Every job file in jobs/configs: it is one, it is planned, and it renders with tiny weights of the same layout."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from safetensors.torch import save_file

import batchgen
from batchgen import report
from batchgen.job.file import job_from, load_job
from batchgen.job.steps import refined_size
from batchgen.plan import graph
from batchgen.plan.preflight import prepare
from tests.in_process import render_here
from tests.models.test_adapters import lora

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
NAMES = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
# tests/render, test_pipeline.py, test_original.py, test_sweep_demo.py
RENDERED_ELSEWHERE = ("demo", "compare-sdxl", "single-file", "sweep-demo")


def test_there_are_job_files():
    assert len(NAMES) > 8


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_job_file_that_says_what_it_is(name):
    file = CONFIGS / f"{name}.yaml"
    assert file.read_text().startswith("# ")
    load_job(file)


@pytest.fixture
def tiny(tmp_path):
    """tiny(name): the job of a file, with two prompts, the demo's weights and small pictures; all else as it says."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a red circle"}\n{"prompt": "two blue stars"}\n')

    def make(name):
        values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        values["input"] = {"path": str(tmp_path / "prompts.jsonl")}
        values["output"] = {"path": str(tmp_path / "run")}
        full = load_job(CONFIGS / f"{name}.yaml")
        values["model"] |= {"preset": "demo", "dtype": "float32"}
        sampling = values.setdefault("sampling", {})
        sampling |= {"height": 64, "width": 64, "guidance_scale": full.sampling.guidance_scale}
        sampling |= {"num_inference_steps": min(6, full.sampling.num_inference_steps), "num_images_per_prompt": 1}
        # Of fewer than six steps, the fifth in which the reference code skips layers has none.
        if "sigmas" in sampling:
            del sampling["num_inference_steps"]
        for number, adapter in enumerate(values["model"].get("adapters", {}).values()):
            adapter["path"] = str(tmp_path / f"{number}.safetensors")
            save_file(lora(number), adapter["path"])
        if "refine" in values:
            values["refine"] |= {"num_inference_steps": 4}
            if "model" in values["refine"]:
                values["refine"]["model"] = {"preset": "demo"}
        return job_from(values)

    return make


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RENDERED_ELSEWHERE])
def test_it_renders(tiny, one_thread, name):
    job = tiny(name)
    prepared = prepare(job)
    said = io.StringIO()
    report.print_plan(Console(file=said, width=200), prepared, graph.survey(prepared), [])
    assert ("a second pass" in said.getvalue()) == (job.refine is not None)
    assert all(adapter.sha256 in said.getvalue() for adapter in prepared.model.adapters.values())
    run, summary = graph.make_plan(prepared)
    render_here(run)
    frame = batchgen.open(job.output.path).to_pandas()
    assert (frame["status"] == "ok").all()
    assert len(frame) == 2 * len(job.sweep.by_cell()) == sum(bucket.images for bucket in summary.buckets.values())
    size = refined_size(job.refine, 64, 64)
    assert {(row.image_height, row.image_width) for row in frame.itertuples()} == {size}
    settings = json.loads(frame["settings"][0])
    assert settings["sampling"]["sampler"] == job.sampling.sampler
    assert frame["sigmas"][0][0] == pytest.approx(1.0)
    data = pq.read_table(Path(job.output.path, "data"))
    assert len(set(data["pixel_sha256"].to_pylist())) == len(frame), "two settings gave one picture"
    assert np.isfinite(frame["render_seconds"]).all()
