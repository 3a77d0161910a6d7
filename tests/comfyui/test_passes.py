"""Samplers, one setting at a time: what it becomes, and what is said where batchgen has nothing like it."""

from __future__ import annotations

import pytest

from batchgen.comfyui import shares
from batchgen.job.steps import first_step


@pytest.mark.parametrize(
    ("theirs", "ours", "lost"),
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
def test_samplers(imported, simple, theirs, ours, lost):
    job = imported(simple(node_5=theirs))
    assert {key: job.sections["sampling"][key] for key in ours} == ours
    assert ("5" in job.losses) == lost


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
    ("cfgs", "window", "lost"),
    [
        ((5, 5), {}, False),
        ((5, 1), {"guidance_stop": 0.35}, False),
        ((1, 5), {"guidance_start": 0.35}, False),
        ((5, 3), {}, True),
    ],
)
def test_samplers_that_hand_over_are_one_pass(imported, simple, cfgs, window, lost):
    nodes = simple(
        node_5=advanced(0, 7, cfgs[0], "enable", "4"),
        node_8=advanced(7, 10_000, cfgs[1], "disable", "5"),
        node_6={"samples": ["8", 0]},
    )
    job = imported(nodes)
    sampling = job.sections["sampling"]
    assert (sampling["num_inference_steps"], sampling["guidance_scale"]) == (20, 5)
    assert {key: value for key, value in sampling.items() if key in ("guidance_start", "guidance_stop")} == window
    assert all(int(share * 20) == 7 for share in window.values())  # as job.steps.guidance_window counts
    assert "refine" not in job.sections
    assert ("8" in job.losses) == lost


def test_a_share_whose_product_falls_short_of_its_step():
    """0.29 of 100 steps is 28.999999999999996 in floating point, however many digits it has."""
    assert int(0.29 * 100) == 28
    for steps in range(2, 201):
        for step in range(1, steps):
            assert int(shares.guidance(step, steps) * steps) == step
    assert shares.guidance(29, 100) == 0.295
    assert shares.guidance(7, 20) == 0.35


def test_a_second_pass_with_the_same_model(imported, simple):
    upscale = {"class_type": "LatentUpscale", "upscale_method": "area", "width": 1536, "height": 0, "samples": ["5", 0]}
    nodes = simple(node_8=upscale, node_9=advanced(12, 10_000, 3, "enable", "8"), node_6={"samples": ["9", 0]})
    nodes["9"]["inputs"]["positive"] = ["3", 0]
    job = imported(nodes)
    assert job.sections["refine"] == {
        "scale": 1.5,
        "upscale_method": "bilinear",
        "strength": 0.4,
        "num_inference_steps": 20,
        "guidance_scale": 3,
    }
    assert "'area' is none of batchgen's methods" in job.losses["8"]
    assert "has another prompt than the first pass" in job.losses["9"]


def test_a_second_pass_through_pixels(imported, simple):
    nodes = simple(
        node_8={"class_type": "ImageScaleBy", "upscale_method": "lanczos", "scale_by": 2.0, "image": ["9", 0]},
        node_9={"class_type": "VAEDecode", "samples": ["5", 0], "vae": ["1", 2]},
        node_10={"class_type": "VAEEncode", "pixels": ["8", 0], "vae": ["1", 2]},
        node_11={**simple()["5"]["inputs"], "class_type": "KSampler", "denoise": 0.3, "latent_image": ["10", 0]},
        node_6={"samples": ["11", 0]},
    )
    job = imported(nodes)
    assert job.sections["refine"]["scale"] == 2.0
    assert job.sections["refine"]["num_inference_steps"] == 93
    assert "enlarges the decoded picture; batchgen enlarges latents" in job.losses["8"]


def test_a_picture_that_is_not_begun_from_noise(imported, simple):
    nodes = simple(
        node_4={"class_type": "VAEEncode", "pixels": ["8", 0], "vae": ["1", 2]},
        node_8={"class_type": "LoadImage", "image": "cat.png"},
    )
    job = imported(nodes)
    assert (job.sections["sampling"]["height"], job.sections["sampling"]["width"]) == (1024, 1024)
    assert "the image begins here; batchgen begins with noise" in job.losses["8"]


@pytest.mark.parametrize("denoise", [round(0.01 * number, 2) for number in range(5, 100)])
def test_strength_runs_as_many_steps_as_denoise(denoise):
    """KSampler.set_steps runs the last `steps` of int(steps / denoise); refine runs the last of num_inference_steps."""
    for steps in range(1, 60):
        whole = int(steps / denoise)
        assert whole - first_step(whole, shares.strength(steps, whole)) == steps
