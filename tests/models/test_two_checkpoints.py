"""A second pass with a checkpoint of its own: what it may say, what it decides, and where both lie."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from batchgen.engines import load_renderer
from batchgen.engines.sd3.second_pass import TwoPassRenderer
from batchgen.errors import Refused
from batchgen.job import Refine
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.look import doctor
from batchgen.look.again import rerender
from batchgen.plan.graph import expanded, make_plan
from batchgen.plan.preflight import prepare
from batchgen.weights.locate import locate
from batchgen.weights.spec import ModelSpec
from tests.in_process import render_here
from tests.models.test_parity import PROMPTS


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another checkpoint of the same layout: its transformer answers differently."""
    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(DEMO_CHECKPOINT, folder)
    (file,) = (folder / "transformer").glob("*.safetensors")
    weights = load_file(file)
    save_file(weights | {"proj_out.bias": weights["proj_out.bias"] + 0.2}, file)
    return folder


def job_of(make_job, other, **changes):
    refine = {"scale": 1.5, "strength": 0.5, "num_inference_steps": 4} | changes.pop("refine", {})
    again = {"preset": "demo", "pretrained_model_name_or_path": str(other)} | changes.pop("again", {})
    return make_job(["a red circle"], refine=refine | {"model": again}, model={"preset": "demo"} | changes)


def spec_of_job(job):
    prepared = prepare(job)
    return ModelSpec.of(prepared.model, job)


def render(renderer, make_row):
    rows = [make_row(i, prompt=text, negative_prompt="grey") for i, text in enumerate(PROMPTS[:2])]
    return renderer.denoise(rows, renderer.encode(rows))


def test_the_second_checkpoint_denoises_the_second_pass(make_job, other, one_thread, make_row):
    spec = spec_of_job(job_of(make_job, other))
    both = load_renderer(spec)
    alone = load_renderer(replace(spec, refine=None, refiner=None))
    twice_alone = render(TwoPassRenderer(alone, alone, spec.refine), make_row)
    found = render(both, make_row)
    assert found.shape == twice_alone.shape
    assert not torch.allclose(found, twice_alone, atol=0.01)
    assert both.second.spec.digest == locate(spec.refine.model).digest != spec.digest
    assert both.decode(found, [0])[0].shape == (96, 80, 3)


def test_two_that_take_turns_are_never_there_together(make_job, other, one_thread, make_row):
    plain = render(load_renderer(spec_of_job(job_of(make_job, other))), make_row)
    both = load_renderer(spec_of_job(job_of(make_job, other, offload="model")))
    assert both.second.spec.model.offload == "model"
    there = []
    for name, renderer in (("first", both.first), ("second", both.second)):
        renderer.transformer.register_forward_pre_hook(lambda *_, name=name: there.append((name, *brought(both))))
    assert torch.equal(render(both, make_row), plain)
    both.decode(plain, [0])
    assert {seen for seen in there if seen[0] == "first"} == {("first", "first.transformer")}
    assert {seen for seen in there if seen[0] == "second"} == {("second", "second.transformer")}
    assert brought(both) == ("first.vae",)


def brought(both):
    """Components that lie on the device now."""
    turns = {"first": both.first.placement, "second": both.second.placement}
    return tuple(f"{name}.{part}" for name, placement in turns.items() for part in placement.brought)


def test_the_job_guidance_interval_is_the_first_passs(renderer, make_row, monkeypatch):
    refine = Refine(strength=0.5, num_inference_steps=4, guidance_scale=7.0)
    rows = [make_row(0)]
    twice = TwoPassRenderer(renderer, renderer, refine)
    sampling = renderer.spec.sampling.model_copy(update={"guidance_stop": 0.5})
    monkeypatch.setattr(renderer, "spec", replace(renderer.spec, sampling=sampling))
    strong = twice.denoise(rows, twice.encode(rows))
    weak = TwoPassRenderer(renderer, renderer, refine.model_copy(update={"guidance_scale": 2.0}))
    assert not torch.allclose(strong, weak.denoise(rows, weak.encode(rows)), atol=0.01)


@pytest.mark.parametrize(
    "change", [{"dtype": "bfloat16"}, {"quantization": {"transformer": "float8"}}, {"text_encoder_3": None}]
)
def test_what_the_second_checkpoint_is_told_makes_another_run(make_job, other, change):
    plain, changed = (prepare(job_of(make_job, other, again=more)) for more in ({}, change))
    assert plain.fingerprint != changed.fingerprint
    assert plain.expansion.cells["default"].decides != changed.expansion.cells["default"].decides


@pytest.mark.parametrize(
    "again",
    [
        {"adapters": {"a": {"path": "a.safetensors"}}}, {"batch_size": 2}, {"offload": "model"}, {"vae_tiling": True},
        {"engine": "diffusers"}, {"preset": "fake"}, {"preset": "diffusers"},
    ],
    ids=str,
)  # fmt: skip
def test_what_it_may_not_be_told_is_refused(again):
    model = {"preset": "demo"} | again
    with pytest.raises(Refused, match=r"refine"):
        job_from({"input": {"path": "x"}, "output": {"path": "y"}, "refine": {"model": model}})


def test_a_missing_second_checkpoint_is_refused_with_all_else(make_job, tmp_path):
    with pytest.raises(Refused, match=r"gone does not exist"):
        prepare(job_of(make_job, tmp_path / "gone"))


def test_offload_may_change_when_a_run_goes_on(make_job, other):
    """It changes no image, so it is not the plan's to say."""
    plain, parked = (prepare(job_of(make_job, other, offload=offload)) for offload in ("none", "group"))
    assert plain.fingerprint == parked.fingerprint
    spec = ModelSpec.of(parked.model, plain.job)
    assert (spec.model.offload, spec.refiner.model.offload) == ("group", "group")


def test_a_negative_prompt_that_only_the_second_pass_reads_is_counted(make_job):
    row = {"prompt": "a red circle", "negative_prompt": "grey " * 200, "guidance_scale": 1.0}
    for refine, cut in (({"guidance_scale": 4.5}, True), ({"guidance_scale": 1.0}, False)):
        prepared = prepare(make_job([row], model={"preset": "demo"}, refine=refine))
        ((_, table),) = expanded(prepared)
        assert table["negative_overflow"].to_pylist() == [cut]


def test_a_refined_run_is_sound_and_renders_again(make_job, one_thread):
    job = make_job(["a red circle", "a blue star"], model={"preset": "demo"}, refine={"num_inference_steps": 3})
    prepared = prepare(job)
    run, _ = make_plan(prepared)
    render_here(run, prepared.model)
    report = doctor.examine(run)
    torch.set_num_threads(2)  # another machine's default: the run's own number is what counts
    rerender(run, 2, report)
    assert torch.get_num_threads() == 1
    assert (report.problems, report.images, report.rerendered) == ([], 2, 2)
