"""Every setting that claims to decide pictures does, or is refused, or told; what claims not to leaves them alone.

Two jobs differ in one setting: then names, the run's fingerprint and the fake renderer's pixels differ too. Whoever
adds a setting adds a value for it here.
"""

import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from batchgen import columns
from batchgen.engines.fake import FakeRenderer
from batchgen.errors import Refused
from batchgen.job import Model, Refine, Sampling
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.job.sweep import Axes
from batchgen.plan.graph import expanded, survey
from batchgen.plan.preflight import prepare
from batchgen.rendering.attempt import image_rows
from batchgen.weights.spec import ModelSpec

ROW = {"prompt": "a", "seed": 3}
LOOP = {"height": 32, "width": 32, "num_inference_steps": 20, "skip_layer_guidance_scale": 2.0}
IDLE = object()  # claims to decide no picture
SAMPLING = {
    "height": 48, "width": 48, "num_inference_steps": 8, "guidance_scale": 3.0, "max_sequence_length": 32,
    "num_images_per_prompt": (IDLE, 2), "negative_prompt": "ugly", "negative_prompt_2": "b", "negative_prompt_3": "c",
    "seed": 5, "seeds": [9], "adapter": "ink", "negative_prompt_stop": 0.5, "guidance_start": 0.1, "guidance_stop": 0.5,
    "skip_layer_guidance_scale": 3.0, "skip_guidance_layers": [2], "skip_layer_guidance_start": 0.1,
    "skip_layer_guidance_stop": 0.5, "sampler": "dpmpp_2m", "schedule": "simple", "shift": 2.0,
    "sigmas": [1 - step / 20 for step in range(20)], "reuse": {"blocks_every": 2},
}  # fmt: skip
REFINE = {
    "scale": 2.0, "strength": 0.6, "num_inference_steps": 10, "guidance_scale": 3.0, "upscale_method": "bilinear",
    "model": {"preset": "demo"},
}  # fmt: skip
ROWS = {
    "id": (IDLE, "x"), "prompt": "b", "prompt_2": "b", "prompt_3": "b", "negative_prompt": "b",
    "negative_prompt_2": "b", "negative_prompt_3": "b", "seed": 4, "height": 48, "width": 48, "aspect_ratio": "2:1",
    "num_images_per_prompt": (IDLE, 2), "num_inference_steps": 8, "guidance_scale": 3.0,
    "skip_layer_guidance_scale": 3.0, "max_sequence_length": 32, "adapter": "ink",
}  # fmt: skip
MODEL = {
    "preset": "fake", "pretrained_model_name_or_path": "/nowhere", "revision": "main", "mirror": "file:///nowhere",
    "engine": "diffusers", "config": "/nowhere", "text_encoder": "CLIP_L", "text_encoder_2": "/nowhere.safetensors",
    "text_encoder_3": None, "vae": "/nowhere.safetensors", "dtype": {"default": "float32", "vae": "bfloat16"},
    "quantization": {"text_encoder_3": "float8"}, "offload": (IDLE, "encoders"), "vae_tiling": True,
    "adapters": {"ink": {"path": "/nowhere.safetensors"}}, "batch_size": 2, "kernels": "compiled",
    "attention": "efficient",
}  # fmt: skip
OTHERS = [
    {"output": {"images_per_shard": 3}},
    {"errors": {"bad_rows": "skip", "on_overflow": {"t5": "skip"}, "max_failed_fraction": 0.5}},
    {"cluster": {"num_cpus": 2, "num_gpus": 0, "price_per_gpu_hour": 1.0}},
]


class Outcome:
    """What becomes of a job: refused, or its notices, fingerprint, names and first picture."""

    def __init__(self, job):
        self.refused, self.told, self.facts, self.names, self.pixels = "", (), None, [], None
        try:
            prepared = prepare(job)
            summary = survey(prepared)
        except Refused as refusal:
            self.refused = str(refusal)
            return
        rows = [row for _, table in expanded(prepared) for row in table.to_pylist()]
        self.told = (*prepared.notices, *(name for name, count in summary.idle.items() if count))
        self.facts = prepared.fingerprint
        self.names = [row["image_id"] for row in rows]
        renderer = FakeRenderer(ModelSpec.of(prepared.model, prepared.job, prepared.facts.rules))
        (row, *_) = image_rows(pa.Table.from_pylist(rows), prepared.job)
        self.pixels = renderer.denoise([row], renderer.encode([row]))[0].tobytes()


@pytest.fixture
def outcome(make_job, tmp_path):
    """outcome(row, **sections) of a job with all kinds of guidance on."""

    def of(row=ROW, **sections):
        try:
            return Outcome(make_job([row], **{"sampling": LOOP} | sections))
        except Refused as refusal:
            found = Outcome.__new__(Outcome)
            found.refused, found.told = str(refusal), ()
            return found

    return of


def check(base, changed, value, *, drawn=True):
    assert not base.refused
    if isinstance(value, tuple):
        assert (changed.refused, changed.pixels) == ("", base.pixels)
    elif not (changed.refused or set(changed.told) - set(base.told)):
        assert changed.facts != base.facts
        assert changed.pixels != base.pixels or not drawn
        return True
    return False


def plain(value):
    return value[1] if isinstance(value, tuple) else value


def test_no_setting_is_forgotten_here():
    assert SAMPLING.keys() == Sampling.model_fields.keys()
    assert REFINE.keys() == Refine.model_fields.keys()
    assert MODEL.keys() == Model.model_fields.keys()
    assert ROWS.keys() == {*columns.MANIFEST}
    assert {name for name, value in ROWS.items() if not isinstance(value, tuple)} == {*columns.CONTENT}


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling(outcome, name):
    row = {"prompt": "a"} if name in ("seed", "seeds") else ROW
    base, changed = outcome(row), outcome(row, sampling=LOOP | {name: plain(SAMPLING[name])})
    happens = check(base, changed, SAMPLING[name])
    assert happens == (name not in ("num_images_per_prompt", "adapter"))
    if happens:
        assert changed.names != base.names


@pytest.mark.parametrize(
    "way",
    [
        lambda name, value: {name: [value]},
        lambda name, value: {"zip": {name: [value]}},
        lambda name, value: {"cells": {"mine": {name: value}}},
    ],
    ids=["axis", "zip", "cells"],
)
@pytest.mark.parametrize("name", Axes.model_fields)
def test_sweep(outcome, name, way):
    value = (SAMPLING | {"prompt": "{prompt}, in oil", "refine": False})[name]
    base, changed = outcome(refine={}), outcome(refine={}, sweep=way(name, value))
    assert check(base, changed, value) == (name != "adapter")


@pytest.mark.parametrize("name", REFINE)
def test_refine(outcome, name):
    assert check(outcome(), outcome(refine={}), {})
    base, changed = outcome(refine={"scale": 1.25}), outcome(refine={"scale": 1.25, name: REFINE[name]})
    assert check(base, changed, REFINE[name], drawn=name != "model")
    assert changed.names != base.names


@pytest.mark.parametrize("name", ROWS)
def test_columns_of_rows(outcome, name):
    sides = {"height": 32, "width": 32} if name in ("height", "width") else {}
    base = outcome(ROW | sides)
    changed = outcome(ROW | sides | {name: plain(ROWS[name])})
    assert check(base, changed, ROWS[name]) == (name not in ("id", "num_images_per_prompt", "adapter"))


@pytest.mark.parametrize("name", MODEL)
def test_model(outcome, tmp_path, name):
    """Weights are the demonstration's, and not drawn: of what decides, names and fingerprint show it."""
    value = MODEL[name]
    if value == "CLIP_L":
        tensors = load_file(DEMO_CHECKPOINT / "text_encoder/model.safetensors")
        save_file(tensors, tmp_path / "clip_l.safetensors")
        value = str(tmp_path / "clip_l.safetensors")
    small = {"height": 96, "width": 96, "num_inference_steps": 20}
    demo = {"preset": "demo"}
    base, changed = (outcome(model=demo | model, sampling=small) for model in ({}, {name: plain(value)}))
    if check(base, changed, value, drawn=False):
        assert changed.names != base.names or name == "batch_size"


@pytest.mark.parametrize("sections", OTHERS, ids=str)
def test_what_decides_no_picture(outcome, sections):
    base, changed = outcome(), outcome(**sections)
    assert (changed.names, changed.facts, changed.pixels) == (base.names, base.facts, base.pixels)


def test_a_column_of_the_users_own_changes_no_picture(outcome):
    base, changed = outcome(), outcome(ROW | {"note": "n"})
    assert changed.pixels == base.pixels
