"""Steps that take over what steps before them computed: which passes run, what is added, and that rows keep apart."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
import torch

from batchgen.engines.sd3.second_pass import TwoPassRenderer
from batchgen.errors import OutOfMemory
from batchgen.job import Refine, Reuse
from tests.models.test_sd3 import hooked, render

BLOCKS, GUIDANCE = Reuse(blocks_every=2, start=0.0), Reuse(guidance_every=2, start=0.0)
BOTH = Reuse(blocks_every=2, guidance_every=2, start=0.0)
STEPS = {"num_inference_steps": 8}


def calls_of(renderer, rows):
    """(step by step, rows of each forward pass; those of each call of the first block, and of one that is skipped)."""
    passes, first, second = [], [], []
    transformer = renderer.transformer
    with contextlib.ExitStack() as stack:
        stack.enter_context(hooked(transformer.proj_out, lambda module, args, out: passes.append(len(out))))
        for block, found in ((transformer.transformer_blocks[0], first), (transformer.transformer_blocks[1], second)):
            stack.enter_context(hooked(block, lambda module, args, out, found=found: found.append(len(out[1]))))
        render(renderer, rows)
    return passes, first, second


# --- which passes run


@pytest.mark.parametrize(
    ("settings", "row", "passes", "blocks"),
    [
        ({}, {}, [4] * 8, [4] * 8),
        ({"reuse": BLOCKS}, {}, [4] * 8, [4] * 4),
        ({"reuse": BLOCKS}, {"guidance_scale": 1.0}, [2] * 8, [2] * 4),
        ({"reuse": GUIDANCE}, {}, [4, 2] * 4, [4, 2] * 4),
        ({"reuse": BOTH}, {}, [4, 4, 2, 2] * 2, [4, 2] * 2),
        ({"reuse": Reuse(blocks_every=3, start=0.25, stop=0.9)}, {}, [4] * 8, [4, 4, 4, 4, 4]),
        # counted anew where guidance begins, and where zeros take the place of the negative prompt
        ({"reuse": BLOCKS, "guidance_start": 0.125}, {}, [2] + [4] * 7, [2, 4, 4, 4, 4]),
        ({"reuse": BLOCKS, "negative_prompt_stop": 0.375}, {}, [4] * 8, [4, 4, 4, 4, 4]),
        # and not where skip-layer guidance would begin if there were guidance
        ({"reuse": BLOCKS, "guidance_start": 0.5, "skip_layer_guidance_stop": 0.3}, {"skip_layer_guidance_scale": 2.8},
         [2] * 4 + [4] * 4, [2, 2, 4, 4]),
    ],
)  # fmt: skip
def test_what_the_schedule_says_is_computed_and_no_more(sampling, make_row, settings, row, passes, blocks):
    rows = [make_row(i, **STEPS | row) for i in range(2)]
    found = calls_of(sampling(**settings), rows)
    assert found[:2] == (passes, blocks)


def test_skip_layer_passes_reuse_what_they_added_themselves(sampling, make_row):
    """Layers 1 and 2 are skipped in steps 1 to 4 of eight, so these are counted together and alone."""
    rows = [make_row(i, **STEPS, skip_layer_guidance_scale=2.8) for i in range(2)]
    renderer = sampling(reuse=BLOCKS, skip_layer_guidance_stop=0.6)
    passes, first, second = calls_of(renderer, rows)
    assert passes == [4, *[4, 2] * 4, 4, 4, 4]
    assert first == [4, 4, 2, 4, 2, 4, 4]  # steps 0, 1, 3, 5 and 7
    assert second == [4, 4, 4, 4, 4]


def test_a_second_pass_reuses_too(renderer, sampling, make_row):
    refine = Refine(scale=1.5, strength=0.5, num_inference_steps=8)
    sampling(reuse=BLOCKS)
    twice = TwoPassRenderer(renderer, renderer, refine)
    rows = [make_row(i) for i in range(2)]
    sides = []
    with hooked(renderer.transformer.transformer_blocks[0], lambda module, args, out: sides.append(out[1].shape[1])):
        twice.denoise(rows, twice.encode(rows))
    assert sides == [12] * 2 + [30] * 2  # four steps of 64 × 48 pixels, and the last four of eight at 96 × 80


# --- what is added


def test_nothing_is_what_it_was(sampling, make_row):
    """Also where the window leaves nothing to take over."""
    rows = [make_row(i, **STEPS, skip_layer_guidance_scale=2.8) for i in range(3)]
    plain = render(sampling(), rows)
    for reuse in (Reuse(), Reuse(blocks_every=2, guidance_every=3, start=0.5, stop=0.6)):
        assert torch.equal(render(sampling(reuse=reuse), rows), plain)


def test_blocks_add_what_they_added_before(sampling, pipe, make_row):
    """Euler's two steps, written out with the modules of diffusers: r is what 24 blocks made of the first input."""
    row = make_row(guidance_scale=1.0, num_inference_steps=2)
    renderer = sampling(reuse=BLOCKS)
    (embeds,) = renderer.encode([row])
    text, pooled = embeds.positive.text[None], embeds.positive.pooled[None]
    sigmas, timesteps = renderer.schedule(row)
    latents = renderer.prepare([row]).drawn
    seen = {}
    with torch.inference_mode():
        for step, time in enumerate(timesteps):
            temb = pipe.transformer.time_text_embed(time.expand(1), pooled)
            image = entered = pipe.transformer.pos_embed(latents)
            if step == 0:
                context = pipe.transformer.context_embedder(text)
                for block in pipe.transformer.transformer_blocks:
                    context, image = block(hidden_states=image, encoder_hidden_states=context, temb=temb)
                seen["added"] = image - entered
            else:
                image = entered + seen["added"]
            patches = pipe.transformer.proj_out(pipe.transformer.norm_out(image, temb))
            velocity = patches.reshape(1, 4, 3, 2, 2, 16).permute(0, 5, 1, 3, 2, 4).reshape(1, 16, 8, 6)
            latents = latents + (sigmas[step + 1] - sigmas[step]) * velocity
    assert torch.equal(renderer.denoise([row], [embeds]), latents)


def test_guidance_adds_the_last_difference(sampling, make_row):
    """From step 1 on, guidance at scale s is the half with text and (s - 1) times the difference of step 0."""
    row = make_row(guidance_scale=3.0, num_inference_steps=2)
    renderer = sampling(reuse=GUIDANCE)
    halves = []
    with hooked(renderer.transformer, lambda module, args, out: halves.append(out[0].clone())):
        found = render(renderer, [row])
    without, with_text = halves[0].chunk(2)
    sigmas, _ = renderer.schedule(row)
    noise = renderer.prepare([row]).drawn
    first = noise + (sigmas[1] - sigmas[0]) * (without + 3.0 * (with_text - without))
    expected = first + (sigmas[2] - sigmas[1]) * (halves[1] + 2.0 * (with_text - without))
    assert torch.allclose(found, expected, atol=1e-5)
    assert len(halves[1]) == 1


# --- rows and batches


@pytest.mark.parametrize(
    ("reuse", "sampler", "changes"),
    [
        (BLOCKS, "euler", {"skip_layer_guidance_scale": 2.8}),
        (GUIDANCE, "euler", {"skip_layer_guidance_scale": 2.8}),
        (BOTH, "euler", {"guidance_scale": 1.0}),
        (BOTH, "dpmpp_2m", {"skip_layer_guidance_scale": 2.8}),
        (BOTH, "euler_ancestral", {}),
    ],
    ids=str,
)
def test_neighbours_order_and_what_came_before_do_not_matter(sampling, make_row, reuse, sampler, changes):
    small = {"height": 32, "width": 32, "num_inference_steps": 5}
    rows = [make_row(i, **small | changes) for i in range(3)]
    plain = render(sampling(sampler=sampler), rows)
    renderer = sampling(sampler=sampler, reuse=reuse)
    latents = render(renderer, rows)
    assert (latents - plain).abs().mean() > 1e-3
    others = [rows[0], *(make_row(50 + i, prompt="something else", **small | changes) for i in range(2))]
    assert torch.equal(render(renderer, others)[0], latents[0])
    assert torch.equal(render(renderer, rows[::-1]).flip(0), latents)


def test_nothing_outlives_a_pass_that_failed(sampling, make_row):
    """Memory runs out in a step whose blocks were to be kept, when those of a step before are kept."""
    rows, held, passes = [make_row(i, **STEPS) for i in range(2)], [], []
    renderer = sampling(reuse=Reuse(blocks_every=2, start=0.0))
    good = render(renderer, rows)
    watched = [renderer.transformer.pos_embed, renderer.transformer.norm_out]
    hooks = [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in watched]

    def fail(module, args, output):
        passes.append(output)
        if len(passes) == 3:
            passes.clear()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        held.append(weakref.ref(output))

    with hooked(renderer.transformer.norm_out, fail), pytest.raises(OutOfMemory):
        render(renderer, rows)
    gc.collect()
    assert [one() for one in held] == [None, None]
    assert hooks == [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in watched]
    assert torch.equal(render(renderer, rows), good)


def test_blocks_that_are_compiled_stay_whole(sampling, make_row):
    """fullgraph raises where a hook would break a block's graph. The compiler's back end is not what is tested."""
    rows = [make_row(i, num_inference_steps=3, guidance_scale=1.0) for i in range(2)]
    renderer = sampling(reuse=BLOCKS)
    expected, blocks = render(renderer, rows), renderer.transformer.transformer_blocks
    ends = blocks[0], blocks[-1]
    torch._dynamo.reset()
    try:
        for block in ends:
            block.compile(fullgraph=True, dynamic=False, backend="eager")
        assert torch.equal(render(renderer, rows), expected)
    finally:
        for block in ends:
            block._compiled_call_impl = None
        torch._dynamo.reset()
