"""The sample workflows: what stands in the job file and the table, value by value, and what is said to be lost."""

from __future__ import annotations

import pytest

from batchgen.job.file import load_job
from tests.comfyui.conftest import WORKFLOWS, command

ENCODERS = {
    "text_encoder": "models/text_encoders/clip_l.safetensors",
    "text_encoder_2": "models/text_encoders/clip_g.safetensors",
    "text_encoder_3": "models/text_encoders/t5xxl_fp16.safetensors",
}
SAME = {"max_sequence_length": 77, "num_images_per_prompt": 1}


def test_text_to_image_with_a_text_for_each_encoder(imported):
    job = imported("text_to_image.api.json")
    assert job.sections == {
        "input": {"path": "job-prompts.jsonl"},
        "model": {
            "preset": "sd3.5-large",
            "pretrained_model_name_or_path": "models/checkpoints/sd3.5_large.safetensors",
            **ENCODERS,
            "vae": "models/vae/sd3_vae.safetensors",
        },
        "sampling": {
            "height": 896,
            "width": 1152,
            "num_inference_steps": 28,
            "guidance_scale": 4.5,
            "sampler": "dpmpp_2m",
            "schedule": "sgm_uniform",
            "max_sequence_length": 77,
            "num_images_per_prompt": 4,
            "negative_prompt": "blurry, low contrast",
        },
        "output": {"path": "out/run"},
    }
    assert job.rows == [
        {
            "prompt": "a castle",
            "prompt_2": "a castle on a hill",
            "prompt_3": "a castle on a hill at dawn, fog in the valley",
            "seed": 812742,
        }
    ]
    assert job.losses == {}
    assert "The first image of a batch begins with ComfyUI's noise" in job.text
    assert "T5 tokens; ComfyUI pads to 77" in job.text


def test_the_usual_workflow_of_medium(imported):
    """UI format: a bypassed LoRA, a muted branch, a reroute, a seed from a primitive, the zeroed negative."""
    job = imported("medium_slg.json")
    assert job.sections["model"] == {
        "preset": "sd3.5-medium",
        "pretrained_model_name_or_path": "models/checkpoints/sd3.5_medium.safetensors",
        **ENCODERS,
        "text_encoder_3": "models/text_encoders/t5xxl_fp8_e4m3fn.safetensors",
    }
    assert job.sections["sampling"] == SAME | {
        "height": 1024,
        "width": 1024,
        "num_inference_steps": 28,
        "guidance_scale": 4.5,
        "sampler": "euler",
        "schedule": "normal",
        "shift": 3.0,
        "negative_prompt": "text, watermark",
        "negative_prompt_stop": 0.11,
        "skip_layer_guidance_scale": 3.0,
        "skip_guidance_layers": [7, 8, 9],
        "skip_layer_guidance_start": 0.01,
        "skip_layer_guidance_stop": 0.15,
    }
    assert job.rows == [{"prompt": "a fox reading a newspaper", "seed": 714167821000}]
    assert job.losses == {}
    assert int(0.11 * 28) == 3  # the prompt in steps 1 to 3 of 28, zeros in the others
    assert "# steps 2 to 5 of 28: what start_percent 0.01 and end_percent 0.15 are at shift 3" in job.text


def test_a_lora_without_t5(imported):
    job = imported("lora.api.json")
    assert job.sections["model"] == {
        "preset": "sd3.5-medium",
        "pretrained_model_name_or_path": "models/checkpoints/SD3.5/sd3.5_medium.safetensors",
        **ENCODERS,
        "text_encoder_3": None,
        "vae_tiling": True,
        "adapters": {"ink-wash-v2": {"path": "models/loras/ink wash v2.safetensors", "scale": 0.8}},
    }
    assert job.sections["sampling"] == SAME | {
        "height": 1280,
        "width": 768,
        "num_inference_steps": 20,
        "guidance_scale": 6,
        "sampler": "euler_ancestral",
        "schedule": "beta",
        "shift": 4.5,
        "negative_prompt": "",
        "adapter": "ink-wash-v2",
    }
    assert job.losses == {}
    assert "add sha256 to say which file it must be" in job.text


def test_large_then_medium_becomes_a_second_pass(imported):
    job = imported("large_then_medium.json")
    assert job.sections["model"] == {
        "preset": "sd3.5-large",
        "pretrained_model_name_or_path": "models/checkpoints/sd3.5_large.safetensors",
        **ENCODERS,
    }
    assert job.sections["refine"] == {
        "scale": 1.5,
        "upscale_method": "bicubic",
        "strength": 0.6,
        "num_inference_steps": 33,  # ComfyUI: the last 20 of int(20 / 0.6)
        "guidance_scale": 5,
        "model": {
            "preset": "sd3.5-medium",
            "pretrained_model_name_or_path": "models/checkpoints/sd3.5_medium.safetensors",
            **ENCODERS,
        },
    }
    assert "skip_layer_guidance_scale" not in job.sections["sampling"]
    assert job.rows == [{"prompt": "a lighthouse in a storm", "seed": 11}]
    assert sorted(job.losses, key=int) == ["8", "9", "14"]
    assert "upscale_method: bicubic is written" in job.losses["8"]
    assert "batchgen's second pass has no skip-layer guidance" in job.losses["9"]
    assert "keeps the picture of the first pass" in job.losses["14"]


def test_what_cannot_be_said_is_listed_by_node(imported):
    job = imported("inexpressible.api.json")
    says = {
        "1": "quantization: {transformer: float8} is written",
        "2": "leaves CLIP-G out",
        "4": "b.pt is no safetensors file",
        "5": "(PerturbedAttentionGuidance): changes the model",
        "6": "weights in brackets, an embedding: (a file, which is left out), a choice in braces",
        "7": "(ControlNetApplySD3): batchgen has nothing like it",
        "10": "sampler heun is none of batchgen's. sampler: euler is written.",
        "11": "width comes from node 12 (ResolutionMath)",
        "14": "(ImageUpscaleWithModel): changes the image",
        "21": "taesd3 is no VAE of SD3",
    }
    assert sorted(job.losses) == sorted(says)
    for id, text in says.items():
        assert text in job.losses[id]
    assert "scheduler karras is none of batchgen's. schedule: normal" in job.losses["10"]
    assert "begins at step 3 of 10" in job.losses["10"]
    assert job.rows == [{"prompt": "golden retriever (dog),  {day|night}", "seed": (2**64 - 1) % 2**32}]
    assert "is larger than batchgen's seeds. 4294967295 is written, which is the same noise" in job.losses["10"]
    assert job.sections["sampling"]["negative_prompt"] == ""
    assert job.sections["sampling"]["negative_prompt_stop"] == 0
    assert job.sections["model"]["preset"] == "sd3.5-large-turbo"
    assert "passwd" not in job.text


def test_the_nodes_of_custom_sampling(imported):
    job = imported("custom_sampler.api.json")
    assert job.sections["model"] == {
        "preset": "sd3.5-medium",
        "pretrained_model_name_or_path": "models/checkpoints/sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
    }
    sampling = job.sections["sampling"]
    assert (sampling["num_inference_steps"], sampling["guidance_scale"]) == (25, 4.5)
    assert (sampling["sampler"], sampling["schedule"]) == ("euler", "simple")
    assert (sampling["skip_layer_guidance_start"], sampling["skip_layer_guidance_stop"]) == (0.01, 0.46)
    assert job.rows == [{"prompt": "a red bicycle", "seed": 44}]
    assert job.losses == {}


def test_two_images_become_two_rows(imported):
    job = imported("two_images.api.json")
    assert job.rows == [
        {"id": "9", "prompt": "a red bicycle", "seed": 1, "guidance_scale": 7},
        {"id": "11", "prompt": "a blue bicycle", "seed": 2, "guidance_scale": 5},
    ]
    assert "guidance_scale" not in job.sections["sampling"]
    assert job.sections["model"]["text_encoder_3"] is None  # sd3_medium_incl_clips has none


@pytest.mark.parametrize("workflow", sorted(path.name for path in WORKFLOWS.iterdir()))
def test_every_job_loads_and_plans(folder, workflow):
    """No weights lie here: with the fake renderer, which has four layers, and without LoRA and second pass."""
    code, output = command("import", "comfyui", WORKFLOWS / workflow)
    assert code == 0, output
    assert "Wrote job.yaml and job-prompts.jsonl. Look at them, then: batchgen plan job.yaml\n" in output
    job = load_job("job.yaml")
    assert job.sampling.max_sequence_length == 77
    changes = ("model={preset: fake}", "sampling.skip_guidance_layers=[1]", "sampling.adapter=", "refine=")
    code, output = command("plan", "job.yaml", *(word for change in changes for word in ("--set", change)))
    assert code == 0, output
    rows = 2 if workflow.startswith("two") else 1
    assert f"{rows * job.sampling.num_images_per_prompt} images of {rows} prompts" in output
