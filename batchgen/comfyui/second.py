"""A second pass of a workflow → `refine:` of a job.

Knows what the first pass was, so that it can say where the second differs in what batchgen has only once.
"""

from __future__ import annotations

import math
from typing import Any

from batchgen.comfyui import percent, prompts, weights
from batchgen.comfyui.findings import Findings
from batchgen.comfyui.passes import Pass
from batchgen.comfyui.places import Models
from batchgen.comfyui.prompts import Steps, Texts
from batchgen.comfyui.way import Enlargement, Way
from batchgen.comfyui.weights import Chain

METHODS = ("nearest-exact", "bilinear", "bicubic")  # config.sampling.Refine.upscale_method
NEAREST_METHODS = {"area": "bilinear", "bislerp": "bicubic", "lanczos": "bicubic"}
SCALES = (1.0, 4.0)  # config.sampling.Refine.scale
EVEN = 0.02  # sides whose factors differ by less come from rounding to the latents' grid

First = tuple[Pass, Chain, dict[str, Any], Texts, Texts | None]


def refine(
    findings: Findings, models: Models, way: Way, passes: list[Pass], size: tuple[int, int], before: First
) -> dict[str, Any]:
    """passes: those after the first, of which the first becomes `refine:`. size: (width, height) of the first."""
    second, (first, chain, model, texts, negative) = passes[0], before
    for later in passes[1:]:
        findings.lost(later.node, "is a third pass or more; batchgen has two.", "It is left out.")
    own = weights.read_chain(findings, models, *second.model_at)
    shift = percent.SHIFT if own.shift is None else own.shift
    steps = Steps(percent.levels(second.schedule, second.steps, shift)[second.first :], shift)
    own_texts, text_node = prompts.positive(findings, *second.positive_at, steps)
    own_negative = None
    if second.cfg > 1 and second.negative_at is not None:
        own_negative = prompts.negative(findings, *second.negative_at, steps)
    own_model = own.model() | (weights.read_encoders(findings, models, text_node, own) if text_node else {})

    section = _enlarged(findings, second, way.between[0], size)
    section |= {
        "strength": second.strength,
        "num_inference_steps": second.steps,
        "guidance_scale": second.cfg,
    }
    shared = {name: model[name] for name in own_model if name in model}
    if own_model != shared:
        section["model"] = own_model
    _say_differences(findings, first, second, chain, own)
    _say_loras(findings, chain, own, same="model" not in section)
    if own_texts != texts:
        findings.lost(
            second.node, "has another prompt than the first pass; batchgen reads one.", "The first is written."
        )
    if None not in (own_negative, negative) and own_negative != negative:
        findings.lost(
            second.node, "has another negative prompt than the first pass; batchgen has one.", "The first is written."
        )
    if own.skip is not None:
        said = percent.said(
            percent.steps_within(steps.noise, own.skip.start, own.skip.end, own.skip.shift), len(steps.noise)
        )
        if not said.startswith("none"):
            findings.lost(
                own.skip.node,
                f"is on in {said} of the second pass; batchgen's second pass has no skip-layer guidance.",
                "It is left out there.",
            )
    return section


def _enlarged(findings: Findings, second: Pass, between: list[Enlargement], size: tuple[int, int]) -> dict[str, Any]:
    """scale and upscale_method."""
    width, height = map(float, size)
    method = METHODS[0]
    for one in between:
        if one.pixels:
            findings.lost(
                one.node, "enlarges the decoded picture; batchgen enlarges latents.", "The factor is written."
            )
        method = _method(findings, one)
        if one.to is None:
            width, height = width * one.factor, height * one.factor
        else:  # 0: keep the aspect ratio
            wide, high = one.to
            width, height = wide or width * high / height or width, high or height * wide / width or height
    across, up = width / size[0], height / size[1]
    scale = across if across == up else math.sqrt(across * up)
    if abs(across - up) > EVEN:
        findings.lost(between[-1].node, f"scales by {across:.3g} and {up:.3g}; batchgen keeps the shape.", "")
    taken = min(max(round(scale, 4), SCALES[0]), SCALES[1])
    if abs(taken - scale) > EVEN:
        findings.lost(
            between[-1].node if between else second.node,
            f"scales by {scale:.3g}; batchgen by 1 to 4.",
            f"scale: {taken:g} is written.",
        )
    return {"scale": taken} | ({"upscale_method": method} if between else {})


def _method(findings: Findings, one: Enlargement) -> str:
    if one.method in METHODS:
        return one.method
    nearest = NEAREST_METHODS.get(one.method, METHODS[0])
    findings.lost(one.node, f"{one.method!r} is none of batchgen's methods.", f"upscale_method: {nearest} is written.")
    return nearest


def _say_differences(findings: Findings, first: Pass, second: Pass, chain: Chain, own: Chain) -> None:
    """Both passes of batchgen have one sampler, schedule and shift."""
    theirs = {
        "sampler": (first.sampler, second.sampler),
        "schedule": (first.schedule, second.schedule),
        "shift": (chain.shift or percent.SHIFT, own.shift or percent.SHIFT),
    }
    for name, (one, two) in theirs.items():
        if one != two:
            findings.lost(
                second.node, f"has {name} {two} after {one}; batchgen has one for both passes.", f"{one} is written."
            )
    if not second.noise:
        findings.lost(second.node, "adds no noise to the first picture.", "batchgen does.")
    if second.last < second.steps:
        findings.lost(second.node, f"stops at step {second.last} of {second.steps}.", "batchgen runs all of them.")


def _say_loras(findings: Findings, chain: Chain, own: Chain, same: bool) -> None:
    before = {(lora.path, lora.scale) for lora in chain.loras}
    after = {(lora.path, lora.scale) for lora in own.loras}
    for lora in own.loras:
        if not same or (lora.path, lora.scale) not in before:
            findings.lost(lora.node, "is applied in the second pass only.", "It is left out there.")
    for lora in chain.loras:
        if same and (lora.path, lora.scale) not in after:
            findings.lost(lora.node, "is applied in the first pass only; batchgen applies it in both.", "")
