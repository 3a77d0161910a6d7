"""What a planner says of single files: digests, and every mistake at once. It reads headers, and loads no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.errors import Refused
from batchgen.job import Model
from batchgen.job.file import job_from, load_job
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.plan.graph import expanded, make_plan, survey
from batchgen.plan.preflight import prepare
from batchgen.weights import singlefile
from batchgen.weights.locate import locate
from tests.models import comfy

ROOT = Path(__file__).parent.parent.parent
ENCODERS = {part: f"text_encoders/{name}.safetensors" for name, part in comfy.ENCODERS.items()}
CHECKPOINT = "checkpoints/sd3.5_tiny.safetensors"
INCLUDING = "checkpoints/sd3.5_tiny_incl_clips_t5xxl.safetensors"
NO_T5 = {"text_encoder_3": None}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return comfy.write(tmp_path_factory.mktemp("ComfyUI") / "models")


def model(folder, checkpoint=CHECKPOINT, **changes):
    """changes: paths below the folder, or elsewhere; 'auto' and None as they are."""
    paths = {"pretrained_model_name_or_path": checkpoint, **ENCODERS, "config": str(DEMO_CHECKPOINT), **changes}
    known = ("auto", None)
    paths = {k: v if v in known or "/" not in str(v) else str(folder / str(v)) for k, v in paths.items()}
    return Model(**{"preset": "demo"} | paths)


def refusal(wanted):
    with pytest.raises(Refused) as refused:
        locate(wanted)
    return [problem.message for problem in refused.value.problems]


# --- what is recorded


def test_every_file_is_recorded_by_its_sha256(folder):
    found = locate(model(folder, vae="vae/sd3_vae.safetensors"))
    paths = {"pretrained_model_name_or_path": CHECKPOINT, **ENCODERS, "vae": "vae/sd3_vae.safetensors"}
    assert found.files == {k: hashlib.sha256((folder / p).read_bytes()).hexdigest() for k, p in paths.items()}
    assert found.path == str(folder / CHECKPOINT)
    assert found.revision is None


def test_the_digest_is_of_contents_and_not_of_places(folder, tmp_path):
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    (elsewhere / ENCODERS["text_encoder"]).rename(elsewhere / "text_encoders/model.safetensors")
    moved = locate(model(elsewhere, text_encoder="text_encoders/model.safetensors"))
    assert moved.digest == locate(model(folder)).digest


def test_the_digest_knows_each_part(folder, tmp_path):
    config = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "config", ignore=shutil.ignore_patterns("*.safetensors"))
    scheduler = config / "scheduler/scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"shift": 3.0', '"shift": 2.0'))
    models = [
        model(folder),
        model(folder, config=str(config)),
        model(folder, **NO_T5),
        model(folder, text_encoder_3="text_encoders/t5xxl_fp8_e4m3fn.safetensors"),
        model(folder, vae="vae/sd3_vae.safetensors"),
        model(folder, INCLUDING, **dict.fromkeys(ENCODERS, "auto")),
        Model(preset="demo", text_encoder_3=None),
        Model(preset="demo"),
    ]
    assert len({locate(one).digest for one in models}) == len(models)


def test_the_plan_has_them_and_batchgen_plan_says_them(folder, tmp_path):
    values = {
        "input": {"path": str(ROOT / "batchgen/demo/prompts.jsonl")},
        "model": model(folder).model_dump(exclude_none=True),
        "output": {"path": str(tmp_path / "run")},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(values))
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "job.yaml")])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    sha256 = hashlib.sha256((folder / ENCODERS["text_encoder"]).read_bytes()).hexdigest()
    assert f"clip_l.safetensors: sha256 {sha256} (AutoV2 {sha256[:10].upper()})" in shown
    run, _ = make_plan(prepare(job_from(values)))
    assert run.plans[0].model.files["text_encoder"] == sha256


def test_paths_of_a_plan_are_absolute(folder, tmp_path, monkeypatch):
    """A renderer may have another working directory than whoever planned."""
    monkeypatch.chdir(folder)
    relative = Model(preset="demo", pretrained_model_name_or_path=CHECKPOINT, **ENCODERS)
    values = {"input": {"path": str(ROOT / "batchgen/demo/prompts.jsonl")}, "output": {"path": str(tmp_path / "run")}}
    prepared = prepare(job_from(values | {"model": relative.model_dump(exclude_none=True)}))
    assert prepared.job.model.text_encoder == str(folder / ENCODERS["text_encoder"])
    assert prepared.model.path == str(folder / CHECKPOINT)


def test_a_model_without_t5_counts_no_tokens_for_it(folder, tmp_path):
    values = {"input": {"path": str(ROOT / "batchgen/demo/prompts.jsonl")}, "output": {"path": str(tmp_path / "run")}}
    for wanted in (model(folder, **NO_T5), Model(preset="demo", text_encoder_3=None)):
        dumped = wanted.model_dump(exclude_none=True) | NO_T5
        prepared = prepare(job_from(values | {"model": dumped}))
        tables = [table for _, table in expanded(prepared)]
        assert {count for table in tables for count in table["tokens_t5"].to_pylist()} == {0}
        assert {text for table in tables for text in table["truncated_t5"].to_pylist()} == {None}
        assert all(count > 2 for table in tables for count in table["tokens_clip_l"].to_pylist())


def test_a_directory_need_not_have_what_is_dropped(tmp_path):
    copy = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "model")
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(copy / part)
    without = Model(preset="demo", pretrained_model_name_or_path=str(copy), text_encoder_3=None)
    assert locate(without).digest == locate(Model(preset="demo", text_encoder_3=None)).digest
    said = refusal(Model(preset="demo", pretrained_model_name_or_path=str(copy)))
    assert [line.split()[2] for line in said] == ["tokenizer_3", "text_encoder_3"]


def test_files_at_a_url_are_fetched(folder):
    there = {part: f"file://{folder}/{path}" for part, path in ENCODERS.items()}
    found = locate(Model(preset="demo", pretrained_model_name_or_path=f"file://{folder}/{CHECKPOINT}", **there))
    assert found.digest == locate(model(folder, config=None)).digest


def test_planning_loads_no_torch(folder):
    code = (
        "import sys\nfrom batchgen.job import Model\nfrom batchgen.weights.locate import locate\n"
        f"locate(Model(**{model(folder).model_dump()!r}))\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- mistakes


def test_all_mistakes_at_once(folder, tmp_path):
    """Each file is in another's place, one is cut short, and one is not there."""
    cut = (folder / ENCODERS["text_encoder_2"]).read_bytes()[:-100]
    (tmp_path / "clip_g.safetensors").write_bytes(cut)
    said = refusal(
        model(
            folder,
            "vae/sd3_vae.safetensors",
            text_encoder=str(folder / ENCODERS["text_encoder_3"]),
            text_encoder_2=str(tmp_path / "clip_g.safetensors"),
            text_encoder_3="text_encoders/t5.safetensors",
            vae=CHECKPOINT,
        )
    )
    assert len(said) == 4  # of the VAE, the one in the checkpoint is as good as any
    assert "pretrained_model_name_or_path" in said[0]
    assert "is a VAE with 16 latent channels. Write the file of a Stable Diffusion 3 or 3.5 model" in said[0]
    assert "is a T5 encoder with 2 layers of width 128 and 1347 words. Write the file of CLIP-L" in said[1]
    assert "clip_g.safetensors: ends 100 bytes early: download it again." in said[2]
    assert "t5.safetensors: does not exist. The folder has clip_g.safetensors, clip_l.safetensors" in said[3]


def test_a_pickle_by_its_name_and_by_its_content(folder, tmp_path):
    with pytest.raises(ValueError, match="is a pickle, which can run code"):
        model(folder, text_encoder="text_encoders/clip_l.bin")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "clip_l.safetensors")
    assert "is no safetensors file" in refusal(model(folder, text_encoder=str(tmp_path / "clip_l.safetensors")))[0]


def test_missing_encoders_are_all_named(folder):
    said = refusal(model(folder, **dict.fromkeys(ENCODERS, "auto")))
    assert [line.partition("holds no ")[2].partition(".")[0] for line in said] == ["CLIP-L", "CLIP-G", "T5-XXL"]
    assert said[0].endswith("Write model.text_encoder: DIRECTORY/clip_l.safetensors.")
    assert said[2].endswith("t5xxl_fp16.safetensors, or null to render without it.")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"lora_unet_x.lora_down.weight": [4, 4]}, "a LoRA, which goes into model.adapters"),
        ({"transformer.blocks.0.lora_A.weight": [4, 4]}, "a LoRA, which goes into model.adapters"),
        ({"conditioner.embedders.0.x": [4], "model.diffusion_model.input_blocks.0": [4]}, "Stable Diffusion XL"),
        ({"cond_stage_model.x": [4], "model.diffusion_model.input_blocks.0": [4]}, "Stable Diffusion 1 or 2"),
        ({"double_blocks.0.img_attn.qkv.weight": [4, 4]}, "a transformer of Flux"),
        ({"transformer_blocks.0.attn.to_q.weight": [4, 4]}, "a transformer in diffusers' layout"),
        ({"controlnet_blocks.0.weight": [4, 4]}, "a ControlNet"),
        ({"something": [4]}, "none that batchgen knows (1 tensors, such as something)"),
        ({}, "none that batchgen knows (0 tensors"),
    ],
)
@pytest.mark.parametrize("setting", ["pretrained_model_name_or_path", *ENCODERS, "vae"])
def test_other_files_are_refused_by_what_they_are(folder, tmp_path, setting, names, said):
    file = comfy.save(tmp_path / "other.safetensors", {name: torch.zeros(shape) for name, shape in names.items()})
    wanted = model(folder).model_copy(update={setting: str(file)})
    found = refusal(wanted)
    assert len(found) == 1
    assert f"model.{setting} {file}: is " in found[0]
    assert said in found[0]


def test_the_wrong_clip_and_the_wrong_size(folder):
    swapped = refusal(model(folder, text_encoder=ENCODERS["text_encoder_2"], text_encoder_2=ENCODERS["text_encoder"]))
    assert (
        "clip_g.safetensors: is a CLIP text encoder with 2 layers of width 80. Write the file of CLIP-L" in swapped[0]
    )
    assert (
        "clip_l.safetensors: is a CLIP text encoder with 2 layers of width 48. Write the file of CLIP-G" in swapped[1]
    )
    real = refusal(Model(**model(folder, config=None, **NO_T5).model_dump() | {"preset": "sd3.5-medium"}))
    assert len(real) == 4  # transformer, VAE, CLIP-L, CLIP-G
    assert (
        "is a Stable Diffusion 3 with 6 blocks of width 128, and its transformer is not that of sd3.5-medium" in real[0]
    )
    assert "Choose the preset of this file" in real[0]


def test_tensors_missing_or_too_many(folder, tmp_path):
    tensors = comfy.component("text_encoder_3")
    del tensors["encoder.final_layer_norm.weight"]
    tensors["encoder.block.2.layer.0.layer_norm.weight"] = torch.zeros(128)
    tensors["shared.weight"] = tensors["shared.weight"].to(torch.int8)
    file = comfy.save(tmp_path / "t5.safetensors", tensors)
    said = refusal(model(folder, text_encoder_3=str(file)))[0]
    assert "encoder.final_layer_norm.weight is missing" in said
    assert "encoder.block.2.layer.0.layer_norm.weight is one too many" in said
    assert "shared.weight is I8, quantized in a way batchgen does not read" in said


def test_configs_that_are_missing(folder, tmp_path):
    assert "is no directory" in refusal(model(folder, config=str(tmp_path / "nowhere")))[0]
    (tmp_path / "broken/transformer").mkdir(parents=True)
    (tmp_path / "broken/transformer/config.json").write_text("{}")
    assert "does not describe transformer" in refusal(model(folder, config=str(tmp_path / "broken")))[0]
    (tmp_path / "broken/transformer/config.json").write_text("[")
    assert "is no JSON" in refusal(model(folder, config=str(tmp_path / "broken")))[0]


def test_settings_that_mean_nothing(folder):
    assert "leave it out" in refusal(model(folder).model_copy(update={"revision": "main"}))[0]
    assert "model.config goes with single files" in refusal(Model(preset="demo", config=str(DEMO_CHECKPOINT)))[0]
    assert "is a directory, write the file in it" in refusal(model(folder, vae="vae/"))[0]


def test_a_directory_and_a_file_are_both_complained_of(tmp_path):
    copy = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "model")
    (copy / "vae/config.json").unlink()
    said = refusal(
        Model(preset="demo", pretrained_model_name_or_path=str(copy), text_encoder=str(tmp_path / "no.safetensors"))
    )
    assert "vae/config.json is missing" in said[0]
    assert "no.safetensors: does not exist" in said[1]


# --- the job file of the repository


def test_the_job_file_of_single_files_plans_with_tiny_ones(folder, tmp_path):
    job = load_job(ROOT / "jobs/configs/single-file.yaml")
    assert singlefile.is_needed(job.model)
    tiny = {
        "pretrained_model_name_or_path": CHECKPOINT,
        **ENCODERS,
        "text_encoder_3": "text_encoders/t5xxl_fp8_e4m3fn.safetensors",
    }
    paths = {f"model.{name}": str(folder / path) for name, path in tiny.items()}
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    job = load_job(
        ROOT / "jobs/configs/single-file.yaml",
        [
            *(f"{key}={value}" for key, value in paths.items()),
            f"model.config={DEMO_CHECKPOINT}",
            f"input.path={tmp_path / 'prompts.txt'}",
            f"output.path={tmp_path / 'run'}",
            "sampling.height=192",
            "sampling.width=192",
        ],
    )
    summary = survey(prepare(job))
    assert (summary.images, summary.beyond_training) == (2, 2)


def test_that_job_file_says_what_is_missing():
    said = refusal(load_job(ROOT / "jobs/configs/single-file.yaml").model)
    assert len(said) == 4
    assert all("/ComfyUI/" in line for line in said)
