"""Single files render what the directory renders: equal weights, and the same bits from prompt to latents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from batchgen.engines import load_renderer
from batchgen.engines.sd3.single_files import components
from batchgen.errors import Refused
from batchgen.job import Model
from batchgen.job.file import load_job
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.plan.preflight import prepare
from batchgen.run.found_model import FoundModel
from batchgen.run.rules import PROJECTION
from batchgen.weights.locate import locate, verify
from batchgen.weights.spec import ModelSpec
from tests.models import comfy
from tests.specs import spec_of

JOB = Path(__file__).parent.parent.parent / "jobs/configs/single-file.yaml"
WEIGHTS = ("transformer", "vae")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return comfy.write(tmp_path_factory.mktemp("ComfyUI") / "models")


def settings(folder, checkpoint="sd3.5_tiny", **changes):
    alone = {part: str(folder / f"text_encoders/{name}.safetensors") for name, part in comfy.ENCODERS.items()}
    path = str(folder / f"checkpoints/{checkpoint}.safetensors")
    return {"preset": "demo", "pretrained_model_name_or_path": path, **alone, **changes}


AUTO = dict.fromkeys(comfy.ENCODERS.values(), "auto")


def load(**model):
    found = locate(Model(**model))
    return load_renderer(spec_of(path=found.path, revision=found.revision, digest=found.digest, **model))


def latents(renderer, rows):
    return renderer.denoise(rows, renderer.encode(rows))


def modules(renderer):
    pipe = renderer.prompts.pipe
    return {name: getattr(pipe, name) for name in (*WEIGHTS, *comfy.ENCODERS.values())}


def same_weights(one, two):
    for name, module in modules(one).items():
        other = modules(two)[name].state_dict()
        mine = module.state_dict()
        assert mine.keys() == other.keys(), name
        assert all(torch.equal(value, other[key]) for key, value in mine.items()), name


@pytest.fixture(scope="module")
def rows(make_row):
    return [make_row(0), make_row(1, guidance_scale=3.0, negative_prompt="a star")]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"config": str(DEMO_CHECKPOINT), "preset": "sd3.5-medium", "dtype": "float32"},
        {"checkpoint": "sd3.5_tiny_incl_clips_t5xxl", **AUTO},
        {"vae": "sd3_vae"},
    ],
    ids=["four files", "config by path", "incl_clips", "vae"],
)
def test_files_render_what_the_directory_renders(folder, renderer, rows, changes):
    if "vae" in changes:
        changes = {"vae": str(folder / "vae/sd3_vae.safetensors")}
    found = load(**settings(folder, **changes))
    same_weights(found, renderer)
    ours, theirs = latents(found, rows), latents(renderer, rows)
    assert torch.equal(ours, theirs)
    for one, two in zip(found.decode(ours, [0, 1]), renderer.decode(theirs, [0, 1]), strict=True):
        assert (one == two).all()


def test_an_fp8_t5_is_its_quantized_weights_cast_up(folder, renderer, rows, tmp_path):
    fp8 = str(folder / "text_encoders/t5xxl_fp8_e4m3fn.safetensors")
    found = load(**settings(folder, text_encoder_3=fp8))
    copy = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "cast")
    cast = {name: value.to(torch.float32) for name, value in load_file(fp8).items()}
    comfy.save(copy / "text_encoder_3/model.safetensors", cast)
    reference = load(preset="demo", pretrained_model_name_or_path=str(copy))
    same_weights(found, reference)
    ours = latents(found, rows)
    assert torch.equal(ours, latents(reference, rows))
    assert not torch.equal(ours, latents(renderer, rows))


def test_an_encoder_beside_a_directory(folder, rows, tmp_path):
    """The directory's own T5 is gone, and nobody asks for it."""
    fp8 = str(folder / "text_encoders/t5xxl_fp8_e4m3fn.safetensors")
    copy = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "model")
    shutil.rmtree(copy / "text_encoder_3")
    beside = load(preset="demo", pretrained_model_name_or_path=str(copy), text_encoder_3=fp8)
    alone = load(**settings(folder, text_encoder_3=fp8))
    same_weights(beside, alone)
    assert torch.equal(latents(beside, rows), latents(alone, rows))


def test_scaled_fp8_is_multiplied_out(folder, tmp_path):
    scaled, wanted = {}, {}
    for name, value in comfy.component("text_encoder_3").items():
        scale = value.abs().max() / 448  # the largest of float8_e4m3fn
        scaled[name] = (value / scale).to(torch.float8_e4m3fn)
        scaled[f"{name.removesuffix('.weight')}.scale_weight"] = scale
        wanted[name] = scaled[name].float() * scale
    scaled["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    file = comfy.save(tmp_path / "t5xxl_fp8_e4m3fn_scaled.safetensors", scaled)
    found = modules(load(**settings(folder, text_encoder_3=str(file))))["text_encoder_3"].state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_without_t5(folder, pipe, rows, tmp_path):
    """From files and from a directory that has none, as diffusers does it: zeros in place of its embeddings."""
    copy = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "model")
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(copy / part)
    found = load(**settings(folder, text_encoder_3=None))
    beside = load(preset="demo", pretrained_model_name_or_path=str(copy), text_encoder_3=None)
    assert torch.equal(latents(found, rows), latents(beside, rows))
    embedding = found.encode(rows)[0].positive.text
    assert embedding.shape == (77 + rows[0].max_sequence_length, 128)
    assert not embedding[77:].any()
    assert embedding[:77].any()
    pipe_without = type(pipe)(**pipe.components | {"text_encoder_3": None, "tokenizer_3": None})
    with torch.inference_mode():
        theirs, *_ = pipe_without.encode_prompt(
            *([text] * 8 for text in (rows[0].prompt,) * 3), do_classifier_free_guidance=False, max_sequence_length=16
        )
    assert torch.equal(embedding, theirs[0])


def test_a_projection_in_clip_l_is_left_out_unless_the_run_began_before(folder):
    model = Model(**settings(folder))
    found = locate(model)
    assert found.left_out
    weights = verify(spec_of(path=found.path, digest=found.digest, **settings(folder)))
    kept, left_out = (components(model, weights, kept)["text_encoder"] for kept in ({}, {PROJECTION: 2}))
    assert torch.equal(left_out.text_projection.weight, torch.eye(48))
    there = comfy.component("text_encoder")["text_projection.weight"]
    assert torch.equal(kept.text_projection.weight, there)
    assert not torch.equal(there, torch.eye(48))


def test_clip_l_without_a_projection_has_the_identity(folder, tmp_path):
    """SD3's own clip_l.safetensors has none."""
    tensors = comfy.component("text_encoder")
    del tensors["text_projection.weight"]
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    file = comfy.save(tmp_path / "clip_l.safetensors", tensors)
    found = modules(load(**settings(folder, text_encoder=str(file))))["text_encoder"]
    assert torch.equal(found.text_projection.weight, torch.eye(48))
    assert torch.equal(
        found.state_dict()["text_model.final_layer_norm.bias"], tensors["text_model.final_layer_norm.bias"]
    )


def test_dtypes(folder):
    found = modules(
        load(**settings(folder, dtype={"default": "bfloat16", "vae": "float32", "text_encoder_3": "float16"}))
    )
    assert {name: module.dtype for name, module in found.items() if name != "text_encoder_3"} == {
        "transformer": torch.bfloat16,
        "vae": torch.float32,
        "text_encoder": torch.bfloat16,
        "text_encoder_2": torch.bfloat16,
    }
    t5 = found["text_encoder_3"].state_dict()
    assert t5["shared.weight"].dtype == torch.float16
    assert t5["encoder.block.1.layer.1.DenseReluDense.wo.weight"].dtype == torch.float32


def test_the_job_file_of_the_repository_renders_tiny_files(folder, make_row, tmp_path):
    """As a driver hands it to a renderer: by way of the plan's JSON."""
    (tmp_path / "prompts.txt").write_text("a cat\n")
    tiny = settings(folder, text_encoder_3=str(folder / "text_encoders/t5xxl_fp8_e4m3fn.safetensors"))
    paths = {f"model.{name}": path for name, path in tiny.items() if name != "preset"}
    paths |= {"model.config": DEMO_CHECKPOINT, "input.path": tmp_path / "prompts.txt", "output.path": tmp_path / "run"}
    paths |= {"sampling.height": 512, "sampling.width": 512}  # the largest that these weights can make
    job = load_job(JOB, [f"{name}={value}" for name, value in paths.items()])
    prepared = prepare(job)
    spec = ModelSpec.of(FoundModel.from_dict(json.loads(json.dumps(prepared.model.to_dict()))), prepared.job)
    renderer = load_renderer(spec)
    found = latents(renderer, [make_row()])
    assert found.dtype == torch.bfloat16
    assert renderer.finite(found) == [True]
    assert renderer.decode(found, [0])[0].shape == (64, 48, 3)


def test_a_file_that_changed_after_planning_is_refused(folder, tmp_path):
    file = tmp_path / "clip_l.safetensors"
    shutil.copy(folder / "text_encoders/clip_l.safetensors", file)
    model = settings(folder, text_encoder=str(file))
    found = locate(Model(**model))
    spec = spec_of(path=found.path, digest=found.digest, **model)
    assert verify(spec).directory == found.tokenizers
    tensors = comfy.component("text_encoder")
    tensors["text_projection.weight"] += 1
    comfy.save(file, tensors)
    with pytest.raises(Refused, match="not those of the plan"):
        verify(spec)
