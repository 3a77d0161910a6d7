"""model.kernels and model.attention in a job: what they go with, what names a run, what a plan says. Without torch."""

import json
import os

import pytest

import batchgen
from batchgen.cost import warm_up
from batchgen.engines import environment
from batchgen.engines.fake import FakeRenderer
from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.look import show
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan, survey
from batchgen.plan.preflight import prepare
from batchgen.report import print_status
from batchgen.rows.expansion import deciding
from batchgen.run.attention import PATH, agree
from batchgen.run.layout import data_path
from batchgen.storage.store import Store
from batchgen.weights.spec import ModelSpec
from tests.in_process import render_here
from tests.test_measured import measure


def job(model, **sections):
    return job_from({"input": {"path": "x"}, "output": {"path": "y"}, "model": model, **sections})


COMPILED, FP8 = {"kernels": "compiled"}, {"kernels": "compiled_fp8"}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (COMPILED | {"offload": "group"}, "write offload: model"),
        (COMPILED | {"quantization": {"transformer": "float8"}}, "write torchao_int8, or leave it out"),
        (COMPILED | {"quantization": {"transformer": "bitsandbytes_4bit"}}, "quantization.transformer"),
        (FP8 | {"quantization": {"transformer": "torchao_int8"}}, "leave it out, or write kernels: eager"),
        (FP8 | {"adapters": {"ink": {"path": "ink.safetensors"}}}, "does not go with model.adapters"),
        (FP8 | {"dtype": "float16"}, "write model.dtype: bfloat16"),
        (COMPILED | {"preset": "diffusers", "pretrained_model_name_or_path": "x/y"}, "model.kernels"),
        ({"attention": "flash", "preset": "diffusers", "pretrained_model_name_or_path": "x/y"}, "model.attention"),
        ({"kernels": "fast"}, "'eager', 'compiled' or 'compiled_fp8'"),
    ],
)
def test_what_cannot_be_together_is_refused(model, says):
    with pytest.raises(Refused, match=r"model") as refusal:
        job(model)
    assert says in str(refusal.value)


def test_without_a_gpu_its_kernels_are_refused_when_planned_and_all_at_once():
    with pytest.raises(Refused) as refusal:
        job({"attention": "cudnn"} | FP8, cluster={"num_gpus": 0})
    assert "model.attention: cudnn is a GPU's" in str(refusal.value)
    assert "model.kernels: compiled_fp8 needs a GPU" in str(refusal.value)
    assert job({"attention": "cudnn"} | FP8).model.attention == "cudnn", "a cluster may have them"


def test_what_goes_together_is_accepted():
    for model in (
        COMPILED | {"offload": "model", "adapters": {"ink": {"path": "ink.safetensors"}}},
        COMPILED | {"quantization": {"transformer": "torchao_int8", "text_encoder_3": "bitsandbytes_8bit"}},
        FP8 | {"quantization": {"text_encoder_3": "float8"}, "attention": "flash_3"},
    ):
        assert job(model).model.kernels == model["kernels"]


def test_a_second_checkpoint_has_the_kernels_of_the_first(make_job):
    for setting in ({"kernels": "compiled"}, {"attention": "flash"}):
        with pytest.raises(Refused, match="model cannot say"):
            job({}, refine={"model": setting})
    found = prepare(make_job(["a"], model=COMPILED | {"preset": "demo"}, refine={"model": {"preset": "demo"}}))
    spec = ModelSpec.of(found.model, found.job, found.facts.rules)
    assert (spec.model.kernels, spec.refiner.model.kernels) == ("compiled", "compiled")


def test_they_are_in_the_fingerprint_and_in_the_rows_and_left_out_at_their_defaults(make_job):
    usual = prepare(make_job(["a"], model={"kernels": "eager", "attention": "auto"}))
    assert not {"kernels", "attention"} & deciding(usual.job).keys()
    assert usual.fingerprint == prepare(make_job(["a"])).fingerprint
    prepared = prepare(make_job(["a"], model=COMPILED | {"attention": "flash"}, out="other"))
    assert deciding(prepared.job).items() >= {"kernels": "compiled", "attention": "flash"}.items()
    assert prepared.facts.for_speed() != usual.facts.for_speed(), "their speeds say nothing of each other"
    run, _ = make_plan(prepared)
    said = json.loads(run.plans[0].constants()["settings"])["model"]
    assert (said["kernels"], said["attention"]) == ("compiled", "flash")


def shapes(make_job, rows, **sections):
    prepared = prepare(make_job(rows, model=COMPILED | {"preset": "demo", "batch_size": 4}, **sections))
    return warm_up.compiled_shapes(prepared.job.refine, survey(prepared).buckets.values())


def test_shapes_are_those_that_the_loop_gives_the_transformer(make_job):
    """Guided batches are doubled; without guidance, in steps outside its window and in extra passes they are not."""
    sampling = {"height": 64, "width": 64, "num_inference_steps": 20, "max_sequence_length": 16, "guidance_scale": 4}
    sampling |= {"num_images_per_prompt": 4}
    assert shapes(make_job, ["a"], sampling=sampling) == {(8, 64, 64, 16, "")}
    both = {(8, 64, 64, 16, ""), (4, 64, 64, 16, "")}
    assert shapes(make_job, ["a"], sampling=sampling | {"guidance_stop": 0.5}) == both
    assert shapes(make_job, ["a"], sampling=sampling | {"skip_layer_guidance_scale": 2.0}) == both
    assert shapes(make_job, ["a", {"prompt": "b", "guidance_scale": 1.0}], sampling=sampling) == both
    refine = {"scale": 2.0, "guidance_scale": 1.0}
    assert shapes(make_job, ["a"], sampling=sampling, refine=refine) == {(8, 64, 64, 16, ""), (4, 128, 128, 16, "")}


def test_the_plan_says_what_warming_up_costs(make_job):
    small = {"height": 64, "width": 64}
    prepared = prepare(make_job(["a"], model=COMPILED | {"preset": "demo"}, sampling=small))
    summary = survey(prepared)
    (line,) = warm_up.lines(prepared.job, summary, None)
    assert "1 shape of batches times 3 kinds of block" in line
    assert "is not measured yet" in line
    (line,) = warm_up.lines(prepared.job, summary, measure(compile_seconds=90.0))
    assert "took a renderer up to 2 min there" in line
    assert not list(warm_up.lines(make_job(["a"], model={"preset": "demo"}, sampling=small), summary, None))


def test_show_compiles_too_and_says_what_else_was_done(make_job):
    model = {"kernels": "compiled_fp8", "attention": "flash", "dtype": "bfloat16"}
    for job, expected in ((make_job(["a"], model=model), True), (make_job(["a"], out="usual"), False)):
        render_here(make_plan(prepare(job))[0])
        results = batchgen.open(job.output.path)
        code = show.snippet(results.row(results.to_pandas()["image_id"][0]))
        compile(code, "snippet", "exec")
        assert ("    block.compile(fullgraph=True, dynamic=False)" in code) == expected
        assert ("# rendered with products of fp8 numbers" in code) == expected
        assert ("# rendered with the attention kernel flash" in code) == expected


def test_status_says_how_long_kernels_took(make_job, monkeypatch, console):
    run, _ = make_plan(prepare(make_job(["a", "b"], model={"batch_size": 1}, output={"images_per_shard": 1})))
    render_here(run)
    print_status(console, status_of(run))
    assert (status_of(run).compile_seconds, "compiled" in console.file.getvalue()) == (None, False)
    run.store.delete(data_path(0))
    monkeypatch.setattr(FakeRenderer, "compile_seconds", 90.0)
    found = status_of(render_here(run))
    print_status(console, found)
    assert (found.compile_seconds, found.to_dict()["compile_seconds"]) == (90.0, 90.0)
    assert "a renderer compiled its kernels for up to 2 min" in console.file.getvalue()


def test_a_name_that_promises_speed_is_explained(make_job):
    small = {"height": 64, "width": 64}
    stored = {"preset": "demo", "quantization": {"transformer": "torchao_float8"}}
    (notice,) = prepare(make_job(["a"], model=stored, sampling=small)).notices
    assert "model.quantization.transformer: torchao_float8 keeps weights in 8 bits" in notice
    assert "model.kernels: compiled_fp8" in notice
    assert not prepare(make_job(["a"], model={"preset": "demo"}, sampling=small)).notices


# --- one kernel of attention for a run


def test_the_first_renderer_says_the_kernel_of_attention(tmp_path):
    store = Store.open(str(tmp_path))
    agree(store, "cudnn", "H100 of one")
    agree(store, "cudnn", "H100 of two")
    agree(store, None, "fake of three")
    with pytest.raises(Refused, match=r"A100 of four computes attention with flash, .* cudnn on H100 of one"):
        agree(store, "flash", "A100 of four")


class OnFlash(FakeRenderer):
    """The fake, as if it computed attention with a certain kernel."""

    def __init__(self, spec):
        super().__init__(spec)
        self.versions |= {"attention": "flash"}


def test_a_renderer_of_another_kernel_renders_nothing_of_a_run(make_job, monkeypatch):
    monkeypatch.setattr("batchgen.rendering.worker.load_renderer", OnFlash)
    run, _ = make_plan(prepare(make_job(["a"])))
    agree(run.store, "cudnn", "H100 of one")
    with pytest.raises(AssertionError, match=r"fake of .* computes attention with flash"):
        render_here(run)
    assert not run.committed()
    run.store.delete(PATH)
    assert render_here(run).committed() == {0}
    assert json.loads(run.store.read(PATH))["attention"] == "flash"


def test_a_run_from_before_goes_on_with_any_kernel_and_keeps_it(make_job, monkeypatch):
    run, _ = make_plan(prepare(make_job(["a", "b"], model={"batch_size": 1}, output={"images_per_shard": 1})))
    render_here(run)
    run.store.delete(data_path(0))
    assert not run.store.exists(PATH), "the fake has no attention, and neither had renderers before"
    monkeypatch.setattr("batchgen.rendering.worker.load_renderer", OnFlash)
    assert render_here(run).committed() == {0, 1}
    assert json.loads(run.store.read(PATH))["attention"] == "flash"


# --- what torch reads from the environment


def test_what_the_user_has_set_for_torch_stays(monkeypatch):
    for name in (*environment.ALLOCATOR, environment.CACHE):
        monkeypatch.delenv(name, raising=False)
    environment.prepare_for_torch()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert os.environ[environment.CACHE].endswith(f"torchinductor_{os.getuid()}")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512")
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    monkeypatch.setenv(environment.CACHE, "/mine")
    environment.prepare_for_torch()
    assert "PYTORCH_ALLOC_CONF" not in os.environ
    assert os.environ[environment.CACHE] == "/mine"


def test_the_fake_renderer_says_that_it_has_no_kernels(make_job):
    assert any(
        "change nothing: preset fake" in line
        for line in prepare(make_job(["a"], model={"kernels": "compiled"})).notices
    )


@pytest.mark.parametrize("model", [{"attention": "flash"}, {"kernels": "compiled_fp8", "dtype": "bfloat16"}])
def test_a_setting_of_gpus_is_told_where_renderers_might_start_on_a_cpu(make_job, model):
    said = "needs a GPU for each renderer: write cluster.num_gpus: 1"
    assert any(said in line for line in prepare(make_job(["a"], model={"preset": "demo"} | model)).notices)
    followed = make_job(["a"], model={"preset": "demo"} | model, cluster={"num_gpus": 1})
    assert not any(said in line for line in prepare(followed).notices)
