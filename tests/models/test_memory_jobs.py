"""Job files for small GPUs, with a tiny checkpoint of the same layout; and settings that are refused early."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from batchgen.engines import load_renderer
from batchgen.errors import Refused
from batchgen.job import Model
from batchgen.job.file import load_job
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.plan.graph import survey
from batchgen.plan.preflight import prepare
from batchgen.weights.quantization import refuse_unusable
from batchgen.weights.spec import ModelSpec


@pytest.fixture(params=["8gb", "nf4"])
def job(request, tmp_path):
    where = [f"model.pretrained_model_name_or_path={DEMO_CHECKPOINT}", f"output.path={tmp_path / 'run'}"]
    largest = ["sampling.height=512", "sampling.width=512"]  # that this checkpoint can make
    return load_job(f"jobs/configs/{request.param}.yaml", where + largest)


def test_it_is_planned(job):
    summary = survey(prepare(job))
    assert summary.images == summary.prompts == 4
    assert [count.batch_size for count in summary.buckets.values()] == [1]


def test_it_is_rendered(job, make_spec, make_row):
    spec = make_spec()
    spec = ModelSpec(path=spec.path, revision=None, digest=spec.digest, model=job.model, sampling=job.sampling)
    renderer = load_renderer(spec)
    rows = [make_row(0, max_sequence_length=job.sampling.max_sequence_length)]
    latents = renderer.denoise(rows, renderer.encode(rows))
    assert latents.dtype == torch.bfloat16
    assert renderer.decode(latents, [0])[0].shape == (64, 48, 3)
    nothing_parked = replace(spec, model=spec.model.model_copy(update={"offload": "none"}))
    plain = load_renderer(nothing_parked)
    assert torch.equal(plain.denoise(rows, plain.encode(rows)), latents)


def test_the_model_card_s_example():
    job = load_job("jobs/configs/nf4.yaml")
    assert job.model.quantization.transformer == "bitsandbytes_4bit"
    assert (job.model.offload, job.model.dtype, job.sampling.max_sequence_length) == ("model", "bfloat16", 512)
    assert (job.sampling.num_inference_steps, job.sampling.guidance_scale) == (28, 4.5)


# --- what cannot be


def refused(**model):
    with pytest.raises(Refused) as caught:
        refuse_unusable(Model.model_validate(model))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("kind", ["bitsandbytes_4bit", "torchao_int8", "torchao_float8"])
def test_a_package_that_is_not_installed(monkeypatch, make_job, kind):
    package = kind.partition("_")[0]
    monkeypatch.setitem(sys.modules, package, None)  # what Python itself takes for "not there"
    quantization = {"transformer": kind, "text_encoder_3": kind}
    (said,) = refused(quantization=quantization)
    assert said == (
        f"model.quantization: {package} is not installed: run `pip install 'batchgen[quantization]'` on every machine."
    )
    with pytest.raises(Refused, match=f"{package} is not installed"):
        prepare(make_job(["a"], model={"preset": "demo", "quantization": quantization}))


def test_an_actor_refuses_it_too(monkeypatch, make_spec):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(Refused, match="bitsandbytes is not installed"):
        load_renderer(make_spec(quantization={"transformer": "bitsandbytes_4bit"}))


def test_float8_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "torchao", None)
    refuse_unusable(Model(quantization={"transformer": "float8", "text_encoder_3": "float8"}))


def test_pairs_that_exclude_each_other():
    eight = {"text_encoder_3": "bitsandbytes_8bit", "transformer": "bitsandbytes_8bit"}
    refuse_unusable(Model(quantization=eight))
    assert len(refused(quantization=eight, offload="encoders")) == 1
    assert len(refused(quantization=eight, offload="model")) == 2
    assert "write torchao_int8, or offload: none" in refused(quantization=eight, offload="group")[0]
    assert "there is no T5" in refused(quantization={"text_encoder_3": "float8"}, text_encoder_3=None)[0]
    assert "dtype: bfloat16" in refused(quantization={"text_encoder_3": "float8"}, dtype="float16")[0]


def test_all_problems_are_said_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "torchao", None)
    chosen = {"transformer": "torchao_int8", "text_encoder_3": "bitsandbytes_8bit"}
    assert len(refused(quantization=chosen, offload="encoders")) == 3
