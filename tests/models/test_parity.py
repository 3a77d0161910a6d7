"""Promise P3: the numbers are diffusers' own. Stage by stage bit for bit, end to end within one level."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from batchgen.engines.protocol import ENCODE_BATCH
from tests.specs import with_sampling

PROMPTS = ["a red circle", "three green cats, sitting", "ein grüner Hund 犬", "a golden robot of glass and stone"]


def stacked(embeds, side, part):
    return torch.stack([getattr(getattr(row, side), part) for row in embeds])


def generators(rows):
    return [torch.Generator("cpu").manual_seed(row.seed) for row in rows]


def call(pipe, rows, embeds, **more):
    """pipe() with our embeddings: everything after encoding."""
    given = {"prompt_embeds": stacked(embeds, "positive", "text")}
    given["pooled_prompt_embeds"] = stacked(embeds, "positive", "pooled")
    if rows[0].guidance_scale > 1:
        given["negative_prompt_embeds"] = stacked(embeds, "negative", "text")
        given["negative_pooled_prompt_embeds"] = stacked(embeds, "negative", "pooled")
    row = rows[0]
    given |= {name: more.pop(name) for name in [*more] if name.endswith("_embeds")}
    return pipe(
        **given,
        height=row.height,
        width=row.width,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        **{"generator": generators(rows)} | more,
    ).images


def test_embeddings_of_the_same_encoder_batch_are_bit_identical(renderer, pipe, make_row):
    rows = [make_row(i, prompt=text, negative_prompt="grey, blurry") for i, text in enumerate(PROMPTS)]
    rows[1] = make_row(1, prompt="one", prompt_2="two cats", prompt_3="three dogs in a long row", negative_prompt="x")
    embeds = renderer.encode(rows)

    batch = [PROMPTS[0], "grey, blurry", "one", "x", PROMPTS[2], PROMPTS[3], "", ""]
    second, third = list(batch), list(batch)
    second[2], third[2] = "two cats", "three dogs in a long row"
    assert len(batch) == ENCODE_BATCH
    with torch.no_grad():
        text, _, pooled, _ = pipe.encode_prompt(
            batch, second, third, do_classifier_free_guidance=False, max_sequence_length=16
        )
    for i, (positive, negative) in enumerate([(0, 1), (2, 3), (4, 1), (5, 1)]):
        assert torch.equal(embeds[i].positive.text, text[positive])
        assert torch.equal(embeds[i].positive.pooled, pooled[positive])
        assert torch.equal(embeds[i].negative.text, text[negative])
        assert torch.equal(embeds[i].negative.pooled, pooled[negative])


CASES = {
    "guided": {},
    "unguided": {"guidance_scale": 1.0},
    "guidance zero": {"guidance_scale": 0.0},
    "negative": {"negative_prompt": "grey, blurry"},
    "wide": {"height": 32, "width": 80},
    "many steps": {"num_inference_steps": 11, "guidance_scale": 7.3},
    "skip layers": {"skip_layer_guidance_scale": 2.8},
    "skip layers, negative": {"skip_layer_guidance_scale": 1.3, "negative_prompt": "grey", "num_inference_steps": 7},
    "skip layers, unguided": {"skip_layer_guidance_scale": 2.8, "guidance_scale": 1.0},
}


def skip_arguments(renderer, rows):
    if not rows[0].skip_layer_guidance_scale:
        return {}
    return {
        "skip_guidance_layers": list(renderer.spec.sampling.skip_guidance_layers),
        "skip_layer_guidance_scale": rows[0].skip_layer_guidance_scale,
        "skip_layer_guidance_start": renderer.spec.sampling.skip_layer_guidance_start,
        "skip_layer_guidance_stop": renderer.spec.sampling.skip_layer_guidance_stop,
    }


@pytest.mark.parametrize("case", CASES)
def test_latents_and_pixels_of_the_same_batch_are_bit_identical(renderer, pipe, make_row, case):
    rows = [make_row(i, prompt=text, **CASES[case]) for i, text in enumerate(PROMPTS[:3])]
    embeds = renderer.encode(rows)
    latents = renderer.denoise(rows, embeds)
    theirs = call(pipe, rows, embeds, output_type="latent", **skip_arguments(renderer, rows))
    assert latents.shape == (3, 16, rows[0].height // 8, rows[0].width // 8)
    assert torch.equal(latents, theirs)

    pixels = renderer.decode(latents, range(3))
    images = call(pipe, rows, embeds, output_type="pil", **skip_arguments(renderer, rows))
    for ours, image in zip(pixels, images, strict=True):
        assert ours.shape == (rows[0].height, rows[0].width, 3)
        assert np.array_equal(ours, np.asarray(image))


def test_the_ends_of_the_skip_layer_window_are_outside_it(renderer, pipe, make_row, monkeypatch):
    spec = with_sampling(renderer.spec, skip_layer_guidance_start=0.25, skip_layer_guidance_stop=0.75)  # steps 1 and 3
    monkeypatch.setattr(renderer, "spec", spec)
    rows = [make_row(skip_layer_guidance_scale=2.8)]
    embeds = renderer.encode(rows)
    theirs = call(pipe, rows, embeds, output_type="latent", **skip_arguments(renderer, rows))
    assert torch.equal(renderer.denoise(rows, embeds), theirs)


def test_skip_layer_guidance_changes_the_picture(renderer, make_row):
    """So that the parity above is not that of two loops that both ignore it."""
    plain, skipping = make_row(), make_row(skip_layer_guidance_scale=2.8)
    embeds = renderer.encode([plain])
    assert not torch.equal(renderer.denoise([plain], embeds), renderer.denoise([skipping], embeds))


def test_latents_are_bit_identical_in_bf16(bf16_renderer, load_pipe, make_row):
    """The model's dtype of the real thing: here every intermediate rounding has to be in the same place."""
    rows = [make_row(i, guidance_scale=4.7, skip_layer_guidance_scale=2.8, num_inference_steps=6) for i in range(2)]
    embeds = bf16_renderer.encode(rows)
    latents = bf16_renderer.denoise(rows, embeds)
    theirs = call(load_pipe("bfloat16"), rows, embeds, output_type="latent", **skip_arguments(bf16_renderer, rows))
    assert latents.dtype == torch.bfloat16
    assert torch.equal(latents, theirs)


def test_end_to_end_against_a_call_of_its_own(renderer, pipe, make_row):
    rows = [make_row(i, prompt=text, height=96, width=96, negative_prompt="grey") for i, text in enumerate(PROMPTS)]
    pixels = renderer.decode(renderer.denoise(rows, renderer.encode(rows)), range(4))
    images = pipe(
        PROMPTS,
        negative_prompt=["grey"] * 4,
        height=96,
        width=96,
        num_inference_steps=4,
        guidance_scale=4.5,
        max_sequence_length=16,
        generator=generators(rows),
    ).images
    difference = np.abs(np.stack(pixels).astype(int) - np.stack([np.asarray(image) for image in images]))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001


def test_sigmas_are_those_of_the_loop_and_the_pipelines_scheduler(renderer, pipe, make_row):
    row = make_row(num_inference_steps=5)
    call(pipe, [row], renderer.encode([make_row()]), output_type="latent")
    assert renderer.sigmas(row) == pipe.scheduler.sigmas.tolist()
    assert len(renderer.sigmas(row)) == 6
    assert renderer.sigmas(row)[0] == 1
    assert renderer.sigmas(row)[-1] == 0
