"""Promise P3 for the ways of rendering beside the plainest: against diffusers' pipelines, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Img2ImgPipeline

from batchgen.engines.sd3.second_pass import TwoPassRenderer
from batchgen.job import Refine
from tests.models.test_parity import PROMPTS, call, stacked


def rows_of(make_row, **settings):
    return [make_row(i, prompt=text, **settings) for i, text in enumerate(PROMPTS[:3])]


# --- guidance


def test_each_encoder_may_have_a_negative_of_its_own(renderer, pipe, make_row):
    row = make_row(negative_prompt="grey", negative_prompt_2="blurry", negative_prompt_3="a dog, a cat")
    found = renderer.encode([row])[0].negative
    with torch.no_grad():
        _, text, _, pooled = pipe.encode_prompt(
            [""] * 8, None, None, negative_prompt=["grey"] * 8, negative_prompt_2=["blurry"] * 8,
            negative_prompt_3=["a dog, a cat"] * 8, max_sequence_length=16,
        )  # fmt: skip
    assert torch.equal(found.text, text[0])
    assert torch.equal(found.pooled, pooled[0])
    others = renderer.encode([replace(row, negative_prompt_3=None)])[0].negative
    assert not torch.equal(found.text, others.text)


def test_guidance_that_stops_is_that_of_a_callback_that_turns_it_off(sampling, pipe, make_row):
    """diffusers' own recipe for it: from a step on, the callback takes the scale and the negative half away."""
    rows = rows_of(make_row, num_inference_steps=6, negative_prompt="grey")
    renderer = sampling(guidance_stop=0.5)
    embeds = renderer.encode(rows)

    def turn_off(pipe, step, timestep, kept):
        if step != 2:  # after the third of six steps
            return kept
        pipe._guidance_scale = 0.0
        kept["prompt_embeds"] = kept["prompt_embeds"].chunk(2)[1]
        pooled = stacked(embeds, "positive", "pooled")
        return kept | {"pooled_prompt_embeds": pooled}

    names = ["latents", "prompt_embeds", "pooled_prompt_embeds"]
    theirs = call(
        pipe, rows, embeds, output_type="latent", callback_on_step_end=turn_off,
        callback_on_step_end_tensor_inputs=names,
    )  # fmt: skip
    assert torch.equal(renderer.denoise(rows, embeds), theirs)


def forwards_of(renderer, rows):
    """Batch sizes of the transformer's forward passes."""
    sizes = []
    handle = renderer.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    try:
        renderer.denoise(rows, renderer.encode(rows))
    finally:
        handle.remove()
    return sizes


def test_outside_the_interval_no_second_half_is_paid_for(sampling, make_row):
    rows = [make_row(i, num_inference_steps=8, skip_layer_guidance_scale=2.8) for i in range(2)]
    renderer = sampling(guidance_start=0.25, guidance_stop=0.5, skip_layer_guidance_start=0.0)
    assert forwards_of(renderer, rows) == [2, 2, 4, 2, 4, 2, 2, 2, 2, 2]  # skip-layer passes under guidance only


def test_guidance_that_starts_later_is_plain_before(sampling, renderer, make_row):
    """Two halves of one schedule, as two calls: the second begins with what the first left."""
    rows = rows_of(make_row, num_inference_steps=4)
    plain = [replace(row, guidance_scale=1.0) for row in rows]
    whole = sampling(guidance_start=0.5)
    embeds = whole.encode(rows)
    found = whole.denoise(rows, embeds)
    sampling(guidance_start=0.0)
    sigmas, timesteps = renderer.schedule(rows[0])
    with torch.inference_mode():
        latents = renderer.loop(plain, embeds, renderer.prepare(rows).drawn, [], (sigmas[:3], timesteps[:2]))
        assert torch.equal(found, renderer.loop(rows, embeds, latents, [], (sigmas, timesteps), first=2))


# --- schedules


def test_sigmas_and_shift_are_as_the_pipeline_takes_them(sampling, pipe, make_row, monkeypatch):
    given = [1.0, 0.8, 0.5, 0.1]
    rows = rows_of(make_row)
    for shift in (3.0, 1.0, 6.0):
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift=shift)
        monkeypatch.setattr(pipe, "scheduler", scheduler)
        for more in ({}, {"sigmas": given}):
            renderer = sampling(shift=shift, **more)
            embeds = renderer.encode(rows)
            theirs = call(pipe, rows, embeds, output_type="latent", **more)
            assert torch.equal(renderer.denoise(rows, embeds), theirs), (shift, more)
            assert renderer.sigmas(rows[0]) == pipe.scheduler.sigmas.tolist()


def test_with_a_shift_of_one_sigmas_are_used_as_they_are(sampling, make_row):
    assert sampling(shift=1.0, sigmas=[1.0, 0.5, 0.25]).sigmas(make_row(num_inference_steps=3)) == [1.0, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("schedule", ["simple", "sgm_uniform", "beta"])
def test_a_schedule_by_name_is_what_diffusers_does_with_its_levels(sampling, pipe, make_row, schedule, monkeypatch):
    rows = rows_of(make_row, num_inference_steps=5)
    renderer = sampling(schedule=schedule)
    embeds, levels = renderer.encode(rows), renderer.sigmas(rows[0])[:-1]
    plain = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift=1.0)
    monkeypatch.setattr(pipe, "scheduler", plain)
    theirs = call(pipe, rows, embeds, output_type="latent", sigmas=levels)
    assert torch.equal(renderer.denoise(rows, embeds), theirs)


# --- samplers


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_ancestral"])
def test_a_sampler_keeps_rows_apart_and_is_not_euler(sampling, make_row, sampler):
    rows = [make_row(i, num_inference_steps=6) for i in range(3)]
    euler = sampling().denoise(rows, sampling().encode(rows))
    renderer = sampling(sampler=sampler)
    found = renderer.denoise(rows, renderer.encode(rows))
    others = [rows[0], make_row(50, num_inference_steps=6), make_row(51, num_inference_steps=6)]
    assert torch.equal(renderer.denoise(others, renderer.encode(others))[0], found[0])
    assert torch.equal(renderer.denoise(rows[::-1], renderer.encode(rows[::-1])).flip(0), found)
    assert not torch.allclose(found, euler, atol=0.01)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_with_many_steps_solvers_agree(sampling, make_row, sampler):
    """One flow has one solution; 2M is nearer to it at a quarter of the steps than Euler."""
    row = make_row(prompt="a red circle", num_inference_steps=120, guidance_scale=3.0)
    exact = sampling().denoise([row], sampling().encode([row]))
    few = replace(row, num_inference_steps=20)
    renderer = sampling(sampler=sampler)
    error = (renderer.denoise([few], renderer.encode([few])) - exact).abs().mean()
    assert error < (0.2 if sampler == "euler" else 0.1)


# --- a second pass


@pytest.mark.parametrize("guidance_scale", [4.5, 1.0])
def test_a_second_pass_is_the_image_to_image_pipelines(renderer, pipe, make_row, guidance_scale):
    refine = Refine(scale=1.5, strength=0.6, num_inference_steps=5, guidance_scale=guidance_scale)
    twice = TwoPassRenderer(renderer, renderer, refine)
    rows = rows_of(make_row, height=64, width=96, negative_prompt="grey")
    embeds = twice.encode(rows)
    noise = renderer.prepare(rows)
    first = renderer.denoise(rows, [one for one, _ in embeds], noise)
    larger = torch.nn.functional.interpolate(first, size=(12, 18), mode="nearest-exact")
    image_to_image = StableDiffusion3Img2ImgPipeline(**pipe.components)
    image_to_image.set_progress_bar_config(disable=True)
    again, texts = twice.again(rows), [two for _, two in embeds]
    theirs = call(
        image_to_image, again, texts, image=larger, strength=0.6, generator=noise.generators, output_type="latent"
    )
    ours = twice.denoise(rows, embeds)
    assert torch.equal(ours, theirs)
    assert twice.decode(ours, [0])[0].shape == (96, 144, 3)


def test_both_passes_sigmas_are_said(renderer, make_row):
    refine = Refine(strength=0.5, num_inference_steps=4)
    three, four = make_row(num_inference_steps=3), make_row(num_inference_steps=4)
    found = TwoPassRenderer(renderer, renderer, refine).sigmas(three)
    assert found == renderer.sigmas(three) + renderer.sigmas(four)[2:]


@pytest.mark.parametrize("stop", [0.0, 0.5])
def test_zeros_in_place_of_a_negative_prompt_are_those_that_diffusers_is_given(sampling, pipe, make_row, stop):
    """From the beginning, or from the fourth of six steps on, by a callback that puts them there."""
    rows = rows_of(make_row, num_inference_steps=6, negative_prompt="grey")
    renderer = sampling(negative_prompt_stop=stop)
    embeds = renderer.encode(rows)

    def zeroed(kept):
        for name in ("prompt_embeds", "pooled_prompt_embeds"):
            negative, positive = kept[name].chunk(2)
            kept[name] = torch.cat([torch.zeros_like(negative), positive])
        return kept

    if stop == 0.0:
        text, pooled = (torch.zeros_like(stacked(embeds, "negative", part)) for part in ("text", "pooled"))
        more = {"negative_prompt_embeds": text, "negative_pooled_prompt_embeds": pooled}
    else:
        names = ["latents", "prompt_embeds", "pooled_prompt_embeds"]
        more = {
            "callback_on_step_end": lambda pipe, step, timestep, kept: zeroed(kept) if step == 2 else kept,
            "callback_on_step_end_tensor_inputs": names,
        }
    theirs = call(pipe, rows, embeds, output_type="latent", **more)
    assert torch.equal(renderer.denoise(rows, embeds), theirs)
