"""`engine: diffusers`: what another model's pipeline does not take is said before a GPU is used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from batchgen.cost import estimate
from batchgen.job.presets import DEMO_CHECKPOINT
from tests.models.directories import weights

PARTS = {  # name → components: (library, class), and which of the demo checkpoint's tokenizers it has
    "StableDiffusionXLPipeline": {
        "scheduler": ("diffusers", "EulerDiscreteScheduler", None),
        "tokenizer": ("transformers", "CLIPTokenizer", "tokenizer"),
        "tokenizer_2": ("transformers", "CLIPTokenizer", "tokenizer_2"),
        "text_encoder": ("transformers", "CLIPTextModel", None),
        "unet": ("diffusers", "UNet2DConditionModel", None),
    },
    "FluxPipeline": {
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler", None),
        "tokenizer": ("transformers", "CLIPTokenizer", "tokenizer"),
        "tokenizer_2": ("transformers", "T5TokenizerFast", "tokenizer_3"),
        "transformer": ("diffusers", "FluxTransformer2DModel", None),
    },
    "SanaPipeline": {
        "tokenizer": ("transformers", "GemmaTokenizer", "tokenizer"),
        "transformer": ("diffusers", "SanaTransformer2DModel", None),
    },
    "CogView4Pipeline": {
        "tokenizer": ("transformers", "GlmTokenizer", "tokenizer"),
        "transformer": ("diffusers", "CogView4Transformer2DModel", None),
    },
    "StableDiffusionPipeline": {
        "tokenizer": ("transformers", "CLIPTokenizer", "tokenizer"),
        "safety_checker": ("stable_diffusion", "StableDiffusionSafetyChecker", None),
        "unet": ("diffusers", "UNet2DConditionModel", None),
    },
}


@pytest.fixture
def other(tmp_path):
    """other(class): a model section with a directory that has all of that pipeline, in a few bytes."""

    def make(name, parts=None, **files):
        directory = tmp_path / name
        parts = PARTS[parts or name]
        index = {part: [library, kind] for part, (library, kind, _) in parts.items()}
        index |= {"_class_name": name, "image_encoder": [None, None], "force_zeros_for_empty_prompt": True}
        content = {"model_index.json": json.dumps(index).encode()}
        for part, (_, _, tokenizer) in parts.items():
            if tokenizer:
                shutil.copytree(DEMO_CHECKPOINT / tokenizer, directory / part, dirs_exist_ok=True)
            elif part == "scheduler":
                content["scheduler/scheduler_config.json"] = b"{}"
            else:
                content |= {f"{part}/config.json": b"{}", f"{part}/model.safetensors": weights(part)}
        for file, data in (content | files).items():
            path = directory / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if data is not None:
                path.write_bytes(data)
        return {"preset": "diffusers", "pretrained_model_name_or_path": str(directory)}

    return make


LONG = "word " * 90


# --- what is fine


def test_rows_of_a_call_share_their_guidance_and_whether_they_have_a_negative(put, accepted, other):
    rows = [{"prompt": "a", "guidance_scale": scale} for scale in (2.5, 5.0, 2.5)]
    rows += [{"prompt": "b", "negative_prompt": "grey"}, {"prompt": "c", "negative_prompt_2": "red"}]
    found = accepted(put(rows), model=other("StableDiffusionXLPipeline"))
    buckets = [image["bucket"].split("t5=256 ")[1] for image in found.images]
    assert buckets == [
        "guidance_scale=2.5 negative=off",
        "guidance_scale=5.0 negative=off",
        "guidance_scale=2.5 negative=off",
        "guidance_scale=5.0 negative=on",
        "guidance_scale=5.0 negative=on",
    ]


def test_the_engine_of_batchgen_does_not_share_them(put, accepted):
    rows = [{"prompt": "a", "guidance_scale": scale} for scale in (2.5, 5.0)]
    found = accepted(put(rows), model={"preset": "demo"})
    assert len({image["bucket"] for image in found.images}) == 1


def test_the_encoders_that_there_are_are_counted(put, accepted, other):
    (image,) = accepted(put([{"prompt": LONG}]), model=other("StableDiffusionXLPipeline")).images
    assert (image["overflow_clip_l"], image["overflow_clip_g"]) == (True, True)
    assert [image[name] for name in ("tokens_t5", "overflow_t5", "truncated_t5", "t5_over_256")] == [None] * 4
    row = {"prompt": LONG, "prompt_2": "a cat", "max_sequence_length": 64}
    (image,) = accepted(put([row]), model=other("FluxPipeline")).images
    assert (image["overflow_clip_l"], image["tokens_clip_g"], image["overflow_t5"]) == (True, None, False)
    assert 2 < image["tokens_t5"] < 8  # T5 reads prompt_2 there
    (image,) = accepted(put([{"prompt": LONG}]), model=other("SanaPipeline")).images
    assert [image[f"tokens_{name}"] for name in ("clip_l", "clip_g", "t5")] == [None] * 3


def test_overflow_is_skipped_where_it_is_counted(put, outcome, other):
    errors = {"on_overflow": {"clip": "skip"}}
    found = outcome(put([{"prompt": LONG}, {"prompt": "a"}]), model=other("StableDiffusionPipeline"), errors=errors)
    assert [row["skip_code"] for row in found.skipped] == ["OVERFLOW_CLIP"]


def test_costs_are_said_to_be_assumed(put, accepted, other):
    found = accepted(put([{"prompt": "a"}]), model=other("FluxPipeline"))
    said = " ".join(estimate.lines(found.prepared.job, found.summary, None, "job.yaml"))
    assert "assumed: a renderer sustains 300 TFLOP/s, and an image costs what it does with SD3.5 Large" in said
    assert "predicted peak memory" not in said


def test_planning_another_model_loads_no_torch(put, other, job, tmp_path):
    values = job(put([{"prompt": "a"}]), model=other("FluxPipeline"))
    code = (
        f"import sys, json; from batchgen.job.file import job_from; from batchgen.plan import graph, preflight\n"
        f"graph.survey(preflight.prepare(job_from(json.loads({json.dumps(values)!r}))))\n"
        "print({'torch', 'diffusers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


# --- rows


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("FluxPipeline", "negative_prompt", "grey"),
        ("FluxPipeline", "negative_prompt_2", "grey"),
        ("FluxPipeline", "prompt_3", "a dog"),
        ("FluxPipeline", "skip_layer_guidance_scale", 2.8),
        ("StableDiffusionXLPipeline", "max_sequence_length", 128),
        ("StableDiffusionPipeline", "prompt_2", "a dog"),
    ],
)
def test_a_row_that_asks_for_what_the_pipeline_lacks(bad_row, other, name, column, value):
    says = f"column {column} is nothing that {name} takes: leave it empty, or move the column away"
    bad_row({"prompt": "a cat", column: value}, "NOT_TAKEN", says, model=other(name))


def test_a_side_that_the_pipeline_cannot_make(bad_row, other):
    row = {"prompt": "a", "height": 1040, "width": 1024}
    bad_row(row, "NOT_TAKEN", "become 1040 × 1024: SanaPipeline makes", "multiples of 32", model=other("SanaPipeline"))


def test_an_empty_value_asks_for_nothing(put, accepted, other):
    row = {"prompt": "a", "negative_prompt": "", "prompt_3": None, "skip_layer_guidance_scale": 0.0}
    accepted(put([row]), model=other("FluxPipeline"))


# --- the job


def test_everything_that_the_job_asks_for_comes_at_once(put, outcome, other):
    found = outcome(
        put([{"prompt": "a"}]),
        model=other("SanaPipeline"),
        sampling={"height": 1040, "negative_prompt_2": "grey"},
        errors={"on_overflow": {"clip": "skip", "t5": "refuse"}},
    )
    said = str(found.refusal)
    assert len(found.problems) == 4, said
    for text in (
        "sampling.negative_prompt_2: SanaPipeline does not take it: leave it out",
        "1040 × 1024: SanaPipeline makes sides that are multiples of 32",
        "errors.on_overflow.clip: is skip, but what SanaPipeline reads is not counted",
        "errors.on_overflow.t5: is refuse, but",
    ):
        assert text in said, said


def test_a_sweep_over_what_the_pipeline_lacks(put, refused, other):
    sweep = {"negative_prompt": ["", "grey"]}
    refused(
        put([{"prompt": "a"}]),
        "does not take it",
        where="sweep.negative_prompt",
        model=other("FluxPipeline"),
        sweep=sweep,
    )


def test_neighbours_that_would_change_an_image(put, refused, accepted, other):
    rows, model = put([{"prompt": "a"}, {"prompt": "a longer one"}]), other("CogView4Pipeline")
    refused(rows, "neighbours would change an image: write 1", where="model.batch_size", model=model)
    accepted(rows, model=model | {"batch_size": 1})


def test_a_preset_of_sd3_for_another_model(put, refused, other):
    model = other("FluxPipeline") | {"preset": "sd3.5-medium", "engine": "diffusers"}
    refused(put([{"prompt": "a"}]), "but the model is FluxPipeline: write diffusers", where="model.preset", model=model)


def test_another_model_without_the_engine(put, refused, other):
    model = other("FluxPipeline") | {"preset": "sd3.5-medium"}
    refused(put([{"prompt": "a"}]), "model_index.json says FluxPipeline", "write model.preset: diffusers", model=model)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"sampling": {"sampler": "dpmpp_2m"}}, "sampling.sampler"),
        ({"sampling": {"schedule": "beta"}}, "sampling.schedule"),
        ({"sampling": {"shift": 2.0}}, "sampling.shift"),
        ({"sampling": {"sigmas": [1.0, 0.5]}}, "sampling.sigmas"),
        ({"sampling": {"guidance_start": 0.1, "guidance_stop": 0.9}}, "guidance_start, sampling.guidance_stop"),
        ({"sampling": {"skip_guidance_layers": [3]}}, "sampling.skip_guidance_layers"),
        ({"sampling": {"skip_layer_guidance_scale": 2.8}}, "sampling.skip_layer_guidance_scale"),
        ({"sweep": {"skip_layer_guidance_scale": [0, 2.8]}}, "sweep.skip_layer_guidance_scale"),
        ({"model": {"adapters": {"a": {"path": "a.safetensors"}}}}, "model.adapters"),
        ({"model": {"quantization": {"transformer": "bitsandbytes_4bit"}}}, "model.quantization"),
        ({"model": {"offload": "encoders"}}, "model.offload"),
        ({"model": {"vae_tiling": True}}, "model.vae_tiling"),
        ({"model": {"text_encoder_3": None}}, "model.text_encoder_3"),
        ({"model": {"config": "somewhere"}}, "model.config"),
        ({"refine": {"scale": 2}}, "refine"),
        ({"model": {"vae_tiling": True}, "refine": {}, "sampling": {"shift": 2}}, "vae_tiling, sampling.shift, refine"),
        ({"model": {"engine": "batchgen"}}, "leave engine out"),
        ({"model": {"pretrained_model_name_or_path": "sdxl.safetensors"}}, "of one file"),
        ({"model": {"pretrained_model_name_or_path": ""}}, "write pretrained_model_name_or_path"),
    ],
)  # fmt: skip
def test_settings_of_batchgens_own_loop(put, refused, sections, said):
    model = {"preset": "diffusers", "pretrained_model_name_or_path": "a/b"} | sections.get("model", {})
    refused(put([{"prompt": "a"}]), said, **sections | {"model": model})


def test_a_second_pass_of_another_engine(put, refused):
    refine = {"model": {"preset": "diffusers", "pretrained_model_name_or_path": "a/b"}}
    refused(put([{"prompt": "a"}]), "has no second pass", refine=refine)


# --- the directory


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("StableDiffusionInpaintPipeline", "no text-to-image pipeline"),
        ("FluxKontextPipeline", "no text-to-image pipeline"),
        ("AutoencoderKL", "which diffusers"),
        ("MyOwnPipeline", "which diffusers"),
        ("WuerstchenCombinedPipeline", "takes no guidance_scale"),
        ("QwenImagePipeline", "true_cfg_scale"),
    ],
)
def test_a_class_that_cannot_render_a_text(put, refused, other, name, says):
    refused(put([{"prompt": "a"}]), name, says, model=other(name, parts="FluxPipeline"))


def test_all_that_is_wrong_with_a_directory(put, outcome, other):
    model = other(
        "StableDiffusionXLPipeline",
        **{
            "unet/model.safetensors": None,
            "unet/diffusion_pytorch_model.bin": b"x",
            "text_encoder/model.safetensors": b"<html>",
            "unet/attention.py": b"",
        },
    )
    said = str(outcome(put([{"prompt": "a"}]), model=model).refusal)
    for text in (
        "unet has pickled weights only",
        "text_encoder/model.safetensors is no safetensors",
        "attention.py is",
    ):
        assert said.count(text) == 1, said


def test_code_of_the_model_as_a_component(put, refused, other, tmp_path):
    model = other("FluxPipeline")
    path = tmp_path / "FluxPipeline/model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"transformer": ["my_code", "Transformer"]}))
    refused(put([{"prompt": "a"}]), "transformer is my_code.Transformer, batchgen loads classes of", model=model)


def test_no_model_index(put, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    model = {"preset": "diffusers", "pretrained_model_name_or_path": str(tmp_path / "empty")}
    refused(put([{"prompt": "a"}]), "model_index.json is missing", model=model)
