"""The model of a workflow: what names of files tell, LoRAs, shift and skip-layer guidance."""

from __future__ import annotations

import pytest

from batchgen.comfyui.places import encoder_named, preset_named


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("sd3.5_medium.safetensors", "sd3.5-medium"),
        ("SD3.5\\sd3.5_large_fp8_scaled.safetensors", "sd3.5-large"),
        ("sd3.5_large_turbo.safetensors", "sd3.5-large-turbo"),
        ("stable-diffusion-3.5-medium.safetensors", "sd3.5-medium"),
        ("SD3.5M_mine.safetensors", "sd3.5-medium"),
        ("sd35l.safetensors", "sd3.5-large"),
        ("sd3_medium_incl_clips.safetensors", "sd3-medium"),
        ("sd3.5_merge.safetensors", None),
        ("dreamshaper.safetensors", None),
    ],
)
def test_presets_by_name(name, preset):
    assert preset_named(name) == preset


def test_an_unknown_model_is_asked_about(imported, simple):
    job = imported(simple(node_1={"ckpt_name": "dreams.safetensors"}))
    assert job.sections["model"]["preset"] == "sd3.5-medium"
    assert "the name dreams.safetensors does not say which model it is" in job.losses["1"]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("clip_l.safetensors", "text_encoder"),
        ("clip_g.safetensors", "text_encoder_2"),
        ("t5xxl_fp8_e4m3fn_scaled.safetensors", "text_encoder_3"),
        ("long-ViT-L-14.safetensors", "text_encoder"),
        ("clip-vit-bigG-14.safetensors", "text_encoder_2"),
        ("google_t5-v1_1-xxl_encoderonly/model.safetensors", None),
        ("model.safetensors", None),
    ],
)
def test_encoders_by_name(name, part):
    assert encoder_named(name) == part


def test_the_one_encoder_without_a_telling_name_is_what_is_left(imported, simple):
    clips = {"clip_name1": "mine.safetensors", "clip_name2": "clip_l.safetensors", "clip_name3": "t5xxl.safetensors"}
    nodes = simple(node_8={"class_type": "TripleCLIPLoader", **clips}, node_2={"clip": ["8", 0]})
    job = imported(nodes)
    assert job.sections["model"]["text_encoder_2"] == "models/text_encoders/mine.safetensors"
    assert "It is written as text_encoder_2: check it." in job.losses["8"]


def test_a_folder_of_models_completes_the_names(imported, simple, folder):
    models = folder / "models folder"
    for name in ("checkpoints/sd3.5_medium.safetensors", "clip/clip_l.safetensors", "text_encoders/clip_g.safetensors"):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).touch()
    clips = {"clip_name1": "clip_l.safetensors", "clip_name2": "clip_g.safetensors", "type": "sd3"}
    nodes = simple(
        node_8={"class_type": "DualCLIPLoader", **clips},
        node_2={"clip": ["8", 0]},
        node_9={"class_type": "VAELoader", "vae_name": "other.safetensors"},
        node_6={"vae": ["9", 0]},
    )
    job = imported(nodes, "--models", models)
    assert job.sections["model"] == {
        "preset": "sd3.5-medium",
        "pretrained_model_name_or_path": str(models / "checkpoints" / "sd3.5_medium.safetensors"),
        "text_encoder": str(models / "clip" / "clip_l.safetensors"),
        "text_encoder_2": str(models / "text_encoders" / "clip_g.safetensors"),
        "text_encoder_3": None,
        "vae": str(models / "vae" / "other.safetensors"),
    }
    assert list(job.losses) == ["9"]
    assert "is not there. Put the file there, or correct the path." in job.losses["9"]


def skipping(**changes):
    values = {"layers": "7, 8, 9", "scale": 3.0, "start_percent": 0.01, "end_percent": 0.15, "model": ["1", 0]}
    return {"class_type": "SkipLayerGuidanceSD3", **values, **changes}


def test_a_shift_after_the_window_does_not_move_it(imported, simple):
    """ComfyUI reads the percentages when the node runs, with the shift upstream of it."""
    shifted = {"class_type": "ModelSamplingSD3", "shift": 6.0}
    after = simple(node_5={"model": ["9", 0]}, node_8=skipping(), node_9={**shifted, "model": ["8", 0]})
    before = simple(node_5={"model": ["8", 0]}, node_8=skipping(model=["9", 0]), node_9={**shifted, "model": ["1", 0]})
    remarks = [
        next(line for line in imported(nodes).text.splitlines() if "skip_layer_guidance_stop" in line)
        for nodes in (after, before)
    ]
    assert "steps 2 to 8 of 28: what start_percent 0.01 and end_percent 0.15 are at shift 3" in remarks[0]
    assert "steps 2 to 5 of 28: what start_percent 0.01 and end_percent 0.15 are at shift 6" in remarks[1]


@pytest.mark.parametrize(
    ("changes", "says", "scale"),
    [
        ({"start_percent": 0.0}, "is on in the first step too", 3.0),
        ({"start_percent": 0.5, "end_percent": 0.5}, "is on in no step of this schedule", None),
        ({"layers": "7, 99"}, "names layers that sd3.5-medium does not have (0 to 23)", 3.0),
        ({"layers": ""}, None, None),
        ({"scale": 0}, None, None),
    ],
)
def test_skip_layer_guidance(imported, simple, changes, says, scale):
    job = imported(simple(node_5={"model": ["8", 0]}, node_8=skipping(**changes)))
    assert job.sections["sampling"].get("skip_layer_guidance_scale") == scale
    assert says in job.losses["8"] if says else job.losses == {}


def test_several_loras(imported, simple):
    def lora(name, scale, behind):
        return {"class_type": "LoraLoaderModelOnly", "lora_name": name, "strength_model": scale, "model": [behind, 0]}

    nodes = simple(
        node_5={"model": ["10", 0]},
        node_8=lora("a.safetensors", 0.5, "1"),
        node_9=lora("x/a.safetensors", -1.0, "8"),
        node_10=lora("off.safetensors", 0, "9"),
    )
    job = imported(nodes)
    assert job.sections["model"]["adapters"] == {
        "a-2": {"path": "models/loras/a.safetensors", "scale": 0.5},
        "a": {"path": "models/loras/x/a.safetensors", "scale": -1.0},
    }
    assert job.sections["sampling"]["adapter"] == "a"
    assert list(job.losses) == ["8"]
