"""One setting at a time: what it becomes, and what is said where batchgen has nothing like it."""

from __future__ import annotations

import pytest

from batchgen.comfyui.passes import _runs, strength_of
from batchgen.comfyui.places import encoder_named, preset_named
from batchgen.comfyui.prompts import plain


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
    found = imported(simple(node_1={"ckpt_name": "dreams.safetensors"}))
    assert found.sections["model"]["preset"] == "sd3.5-medium"
    assert "the name dreams.safetensors does not say which model it is" in found.losses["1"]


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
    found = imported(nodes)
    assert found.sections["model"]["text_encoder_2"] == "models/text_encoders/mine.safetensors"
    assert "It is written as text_encoder_2: check it." in found.losses["8"]


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
    found = imported(nodes, "--models", models)
    assert found.sections["model"] == {
        "preset": "sd3.5-medium",
        "pretrained_model_name_or_path": str(models / "checkpoints" / "sd3.5_medium.safetensors"),
        "text_encoder": str(models / "clip" / "clip_l.safetensors"),
        "text_encoder_2": str(models / "text_encoders" / "clip_g.safetensors"),
        "text_encoder_3": None,
        "vae": str(models / "vae" / "other.safetensors"),
    }
    assert list(found.losses) == ["9"]
    assert "is not there. Put the file there, or correct the path." in found.losses["9"]


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ({"sampler_name": "ddim"}, {"sampler": "euler"}, False),
        ({"sampler_name": "dpmpp_2m"}, {"sampler": "dpmpp_2m"}, False),
        ({"sampler_name": "dpmpp_2m_sde"}, {"sampler": "euler_ancestral"}, True),
        ({"sampler_name": "dpmpp_3m"}, {"sampler": "dpmpp_2m"}, True),
        ({"sampler_name": "res_multistep"}, {"sampler": "dpmpp_2m"}, True),
        ({"scheduler": "beta"}, {"schedule": "beta"}, False),
        ({"scheduler": "exponential"}, {"schedule": "normal"}, True),
        ({"cfg": 1}, {"guidance_scale": 1.0}, False),
        ({"cfg": 0}, {"guidance_scale": 1.0}, True),
        ({"cfg": 80}, {"guidance_scale": 50.0}, True),
        ({"steps": 300}, {"num_inference_steps": 200}, True),
        ({"denoise": 0.5}, {"num_inference_steps": 28}, True),
    ],
)
def test_samplers(imported, simple, theirs, ours, said):
    found = imported(simple(node_5=theirs))
    assert {key: found.sections["sampling"][key] for key in ours} == ours
    assert ("5" in found.losses) == said


def test_without_guidance_no_negative_is_read(imported, simple):
    nodes = simple(node_5={"cfg": 1, "negative": ["8", 0]})
    nodes["8"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["2", 0]}}
    found = imported(nodes)
    assert "negative_prompt" not in found.sections["sampling"]
    assert found.losses == {}


def test_negatives_of_each_encoder(imported, simple):
    texts = {"clip_l": "a", "clip_g": "b", "t5xxl": "c", "clip": ["1", 1]}
    found = imported(simple(node_3={"class_type": "CLIPTextEncodeSD3", **texts}))
    negatives = {key: text for key, text in found.sections["sampling"].items() if "negative" in key}
    assert negatives == {"negative_prompt": "a", "negative_prompt_2": "b", "negative_prompt_3": "c"}


def test_an_encoder_without_a_text_is_said(imported, simple):
    texts = {"clip_l": "", "clip_g": "b", "t5xxl": "b", "clip": ["1", 1]}
    found = imported(simple(node_2={"class_type": "CLIPTextEncodeSD3", **texts}))
    assert found.rows == [{"prompt": "b", "seed": 7}]
    assert "its clip_l is empty and others are not" in found.losses["2"]


def test_combined_and_timed_prompts(imported, simple):
    nodes = simple(
        node_5={"positive": ["8", 0]},
        node_8={"class_type": "ConditioningCombine", "conditioning_1": ["9", 0], "conditioning_2": ["3", 0]},
        node_9={"class_type": "ConditioningSetTimestepRange", "start": 0.0, "end": 0.5, "conditioning": ["2", 0]},
    )
    found = imported(nodes)
    assert found.rows[0]["prompt"] == "a cat"
    assert "Only that of node 2 (CLIPTextEncode) is written" in found.losses["3"]
    assert "the prompt is read in steps 1 to 14 of 28 only" in found.losses["9"]


def test_long_and_empty_prompts(imported, simple):
    assert "has 60 words" in imported(simple(node_2={"text": "word " * 60})).losses["2"]
    assert "the prompt is empty, which batchgen does not render" in imported(simple(node_2={"text": " "})).losses["2"]


def test_values_from_other_nodes(imported, simple):
    nodes = simple(
        node_4={"width": ["8", 0]},
        node_8={"class_type": "PrimitiveInt", "value": 768},
        node_2={"text": ["9", 0]},
        node_9={"class_type": "StringConstant", "string": "a horse"},
        node_5={"seed": ["10", 0]},
        node_10={"class_type": "Seed (rgthree)", "seed": 99},
    )
    found = imported(nodes)
    assert found.sections["sampling"]["width"] == 768
    assert found.rows == [{"prompt": "a horse", "seed": 99}]
    assert found.losses == {}


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
    found = imported(simple(node_5={"model": ["8", 0]}, node_8=skipping(**changes)))
    assert found.sections["sampling"].get("skip_layer_guidance_scale") == scale
    assert says in found.losses["8"] if says else found.losses == {}


def test_several_loras(imported, simple):
    def lora(name, scale, behind):
        return {"class_type": "LoraLoaderModelOnly", "lora_name": name, "strength_model": scale, "model": [behind, 0]}

    nodes = simple(
        node_5={"model": ["10", 0]},
        node_8=lora("a.safetensors", 0.5, "1"),
        node_9=lora("x/a.safetensors", -1.0, "8"),
        node_10=lora("off.safetensors", 0, "9"),
    )
    found = imported(nodes)
    assert found.sections["model"]["adapters"] == {
        "a-2": {"path": "models/loras/a.safetensors", "scale": 0.5},
        "a": {"path": "models/loras/x/a.safetensors", "scale": -1.0},
    }
    assert found.sections["sampling"]["adapter"] == "a"
    assert list(found.losses) == ["8"]


def advanced(first, last, cfg, noise, latent):
    return {
        "class_type": "KSamplerAdvanced",
        "add_noise": noise,
        "noise_seed": 3,
        "steps": 20,
        "cfg": cfg,
        "sampler_name": "euler",
        "scheduler": "normal",
        "start_at_step": first,
        "end_at_step": last,
        "return_with_leftover_noise": "enable",
        "model": ["1", 0],
        "positive": ["2", 0],
        "negative": ["3", 0],
        "latent_image": [latent, 0],
    }


@pytest.mark.parametrize(
    ("cfgs", "window", "said"),
    [
        ((5, 5), {}, False),
        ((5, 1), {"guidance_stop": 0.35}, False),
        ((1, 5), {"guidance_start": 0.35}, False),
        ((5, 3), {}, True),
    ],
)
def test_samplers_that_hand_over_are_one_pass(imported, simple, cfgs, window, said):
    nodes = simple(
        node_5=advanced(0, 7, cfgs[0], "enable", "4"),
        node_8=advanced(7, 10_000, cfgs[1], "disable", "5"),
        node_6={"samples": ["8", 0]},
    )
    found = imported(nodes)
    sampling = found.sections["sampling"]
    assert (sampling["num_inference_steps"], sampling["guidance_scale"]) == (20, 5)
    assert {key: value for key, value in sampling.items() if key in ("guidance_start", "guidance_stop")} == window
    assert all(int(share * 20) == 7 for share in window.values())  # buckets.guidance_window
    assert "refine" not in found.sections
    assert ("8" in found.losses) == said


def test_a_second_pass_with_the_same_model(imported, simple):
    upscale = {"class_type": "LatentUpscale", "upscale_method": "area", "width": 1536, "height": 0, "samples": ["5", 0]}
    nodes = simple(node_8=upscale, node_9=advanced(12, 10_000, 3, "enable", "8"), node_6={"samples": ["9", 0]})
    nodes["9"]["inputs"]["positive"] = ["3", 0]
    found = imported(nodes)
    assert found.sections["refine"] == {
        "scale": 1.5,
        "upscale_method": "bilinear",
        "strength": 0.4,
        "num_inference_steps": 20,
        "guidance_scale": 3,
    }
    assert "'area' is none of batchgen's methods" in found.losses["8"]
    assert "has another prompt than the first pass" in found.losses["9"]


def test_a_second_pass_through_pixels(imported, simple):
    nodes = simple(
        node_8={"class_type": "ImageScaleBy", "upscale_method": "lanczos", "scale_by": 2.0, "image": ["9", 0]},
        node_9={"class_type": "VAEDecode", "samples": ["5", 0], "vae": ["1", 2]},
        node_10={"class_type": "VAEEncode", "pixels": ["8", 0], "vae": ["1", 2]},
        node_11={**simple()["5"]["inputs"], "class_type": "KSampler", "denoise": 0.3, "latent_image": ["10", 0]},
        node_6={"samples": ["11", 0]},
    )
    found = imported(nodes)
    assert found.sections["refine"]["scale"] == 2.0
    assert found.sections["refine"]["num_inference_steps"] == 93
    assert "enlarges the decoded picture; batchgen enlarges latents" in found.losses["8"]


def test_a_picture_that_is_not_begun_from_noise(imported, simple):
    nodes = simple(
        node_4={"class_type": "VAEEncode", "pixels": ["8", 0], "vae": ["1", 2]},
        node_8={"class_type": "LoadImage", "image": "cat.png"},
    )
    found = imported(nodes)
    assert (found.sections["sampling"]["height"], found.sections["sampling"]["width"]) == (1024, 1024)
    assert "the image begins here; batchgen begins with noise" in found.losses["8"]


def test_an_image_that_cannot_be_read_does_not_stop_another(imported, simple):
    found = imported(simple(node_9={"class_type": "PreviewImage", "images": ["99", 0]}))
    assert len(found.rows) == 1
    assert "its image is left out: node 9 (PreviewImage): its input images is linked to node 99" in found.losses["9"]


@pytest.mark.parametrize("denoise", [round(0.01 * number, 2) for number in range(5, 100)])
def test_strength_runs_as_many_steps_as_denoise(denoise):
    """KSampler.set_steps runs the last `steps` of int(steps / denoise); refine runs the last of num_inference_steps."""
    for steps in range(1, 60):
        whole = int(steps / denoise)
        assert _runs(strength_of(steps, whole), whole) == steps


@pytest.mark.parametrize(
    ("text", "words", "marked"),
    [
        ("a (red:1.3) cat", "a red cat", True),
        ("((very)) red", "very red", True),
        ("(a (b:0.5) c:1.2)", "a b c", True),
        ("a \\(dog\\) cat", "a (dog) cat", False),
        ("(dog: big)", "dog: big", True),
        ("at 10:30 :) and (", "at 10:30 :) and (", False),
        ("(" * 50_000 + "x" + ")" * 50_000, "x", True),
        ("(" * 50_000, "(" * 50_000, False),
    ],
)
def test_marks_in_a_prompt(text, words, marked):
    assert plain(text) == (words, ["weights in brackets"] if marked else [])
