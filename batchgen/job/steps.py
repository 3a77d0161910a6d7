"""What settings of the loop mean in steps and pixels: guided and reusing steps, steps and size of a second pass.

Pure arithmetic, the one place where planner, renderers, estimates and the ComfyUI importer look it up.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from batchgen.job.sampling import Refine, Sampling

SNAP = 16  # StableDiffusion3Pipeline.check_inputs, diffusers 0.42.1: VAE factor 8 times patch size 2
CLIP_TOKENS = 77  # tokenizer.model_max_length in StableDiffusion3Pipeline, with start and end token

Size = TypeVar("Size", int, npt.NDArray[np.int64])


def snap_side(side: Size) -> Size:
    """The nearest multiple of 16 (halves go up: 1080 → 1088), at least 16. Takes an int or an integer array."""
    snapped = (side + SNAP // 2) // SNAP * SNAP
    return snapped + (snapped < SNAP) * (SNAP - snapped)


def snap(height: int, width: int) -> tuple[int, int]:
    """Height and width as the model takes them."""
    return snap_side(height), snap_side(width)


def refined_size(refine: Refine | None, height: int, width: int) -> tuple[int, int]:
    """Height and width of the picture that is stored, after a second pass if there is one."""
    if refine is None:
        return height, width
    return snap(round(height * refine.scale), round(width * refine.scale))


def guidance_window(steps: int, sampling: Sampling) -> tuple[int, int]:
    """First guided step and the one after the last: those of diffusers 0.42.1's ClassifierFreeGuidance guider."""
    return int(sampling.guidance_start * steps), int(sampling.guidance_stop * steps)


def skip_layer_steps(num_inference_steps: int, start: float, stop: float) -> list[int]:
    """The steps that run the extra forward pass: those with n × start < i < n × stop, as in diffusers 0.42.1."""
    n = num_inference_steps
    return [i for i in range(n) if n * start < i < n * stop]


def guided_and_skipping(steps: int, sampling: Sampling) -> tuple[range, list[int]]:
    """The steps in which guidance would be on, and those of them in which skip-layer guidance would be too."""
    guided = range(*guidance_window(steps, sampling))
    skipping = skip_layer_steps(steps, sampling.skip_layer_guidance_start, sampling.skip_layer_guidance_stop)
    return guided, [step for step in skipping if step in guided]


@dataclass(frozen=True, slots=True)
class Reused:
    """Steps of a pass by what they take over: the blocks' part of a step before, the negative half's part of guidance.

    saved: forward passes of a row that are not computed. saved_skipping: those of them with layers skipped.
    """

    blocks: frozenset[int]
    guidance: frozenset[int]
    saved: int
    saved_skipping: int


def reused(sampling: Sampling, steps: range, guided: range, skipping: Collection[int]) -> Reused:
    """What steps take over. steps: those of a pass that run, up to its last. guided, skipping: steps of such guidance.

    Counted anew wherever a step computes something else than the one before, so that what is taken over was computed
    under the same guidance. A step that takes over the blocks' part does all else as the step did that computed it.
    """
    reuse, read_until = sampling.reuse, int(sampling.negative_prompt_stop * steps.stop)
    inside = range(int(reuse.start * steps.stop), int(reuse.stop * steps.stop))
    blocks, guidance = set[int](), set[int]()

    def computes(step: int) -> tuple[bool, ...]:
        return step in inside, step in guided, step in guided and step < read_until, step in skipping

    for (is_inside, is_guided, *_), alike in groupby(steps, computes):
        for place, step in enumerate(alike if is_inside else ()):
            turn, since = divmod(place, reuse.blocks_every)
            if since:
                blocks.add(step)
            if is_guided and turn % reuse.guidance_every:
                guidance.add(step)
    halves = sum(1 + (step in guided) for step in blocks) + len(guidance - blocks)
    return Reused(frozenset(blocks), frozenset(guidance), halves, len(blocks.intersection(skipping)))


def first_reused(sampling: Sampling, steps: int, *, is_guided: bool, skips_layers: bool) -> Reused:
    """The same of a first pass, by whether guidance and skip-layer guidance are on."""
    guided, skipping = guided_and_skipping(steps, sampling) if is_guided else (range(0), [])
    return reused(sampling, range(steps), guided, skipping if skips_layers else ())


def first_step(steps: int, strength: float) -> int:
    """Of a pass over something that is there: get_timesteps of diffusers 0.42.1's image-to-image pipelines."""
    return int(max(steps - min(steps * strength, steps), 0))


def refine_steps(refine: Refine) -> int:
    """How many steps of a second pass run."""
    return refine.num_inference_steps - first_step(refine.num_inference_steps, refine.strength)


def refine_reused(refine: Refine, sampling: Sampling) -> Reused:
    """The same of a second pass: all of its steps are guided, or none."""
    last = refine.num_inference_steps
    steps = range(first_step(last, refine.strength), last)
    return reused(sampling, steps, steps if refine.guidance_scale > 1 else range(0), ())
