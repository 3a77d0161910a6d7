"""One image of a workflow → the settings of a job and a row of its prompt table.

Decides what each pass becomes; where things are found is way.py's, weights.py's, prompts.py's and passes.py's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from batchgen.comfyui import percent, prompts, weights
from batchgen.comfyui.findings import Findings
from batchgen.comfyui.passes import Pass, read_pass
from batchgen.comfyui.places import Models
from batchgen.comfyui.prompts import Steps, Texts
from batchgen.comfyui.way import Enlargement, Way
from batchgen.comfyui.weights import Chain
from batchgen.job.presets import PRESETS

T5_TOKENS = 77  # T5XXLTokenizer of comfy/text_encoders/sd3_clip.py pads to 77 and cuts nothing


@dataclass(slots=True)
class Image:
    """model, sampling, refine: sections of the job. row: of the prompt table. remarks: 'sampling.shift' → why."""

    model: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    refine: dict[str, Any] | None = None
    row: dict[str, Any] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)


def read_image(findings: Findings, models: Models, way: Way) -> Image:
    image = Image()
    passes = [read_pass(findings, node) for node in way.samplers]
    first, rest, window = _handed_over(findings, passes, way)
    chain = weights.read_chain(findings, models, *first.model_at)
    steps = Steps(percent.levels(first.schedule, first.steps, _shift(chain)), _shift(chain))
    texts, text_node = prompts.positive(findings, *first.positive_at, steps)
    negative = None
    if first.cfg > 1 and first.negative_at is not None:
        negative = prompts.negative(findings, *first.negative_at, steps)

    image.model = chain.model()
    image.model |= weights.read_encoders(findings, models, text_node, chain) if text_node else {}
    image.model |= weights.read_vae(findings, models, way.decoder, chain) if way.decoder else {}
    preset = PRESETS[chain.preset]
    image.sampling = {
        "height": way.height or preset.height,
        "width": way.width or preset.width,
        "num_inference_steps": first.steps - first.first,
        "guidance_scale": first.cfg,
        "sampler": first.sampler,
        "schedule": first.schedule,
        "max_sequence_length": T5_TOKENS,
        "num_images_per_prompt": way.count,
    }
    if chain.shift is not None:
        image.sampling["shift"] = chain.shift
    if negative is not None:
        image.sampling |= negative.columns("negative_prompt")
    image.sampling |= window
    image.row = texts.columns("prompt") | {"seed": first.seed}
    _say_beginning(findings, first, way)
    _skip(findings, image, chain, first, steps)
    _adapters(findings, image, chain)
    if rest:
        size = image.sampling["width"], image.sampling["height"]
        image.refine = refine(findings, models, way, rest, size, (first, chain, image.model, texts, negative))
    return image


def _shift(chain: Chain) -> float:
    return percent.SHIFT if chain.shift is None else chain.shift


def _say_beginning(findings: Findings, first: Pass, way: Way) -> None:
    if not first.noise:
        findings.lost(first.node, "adds no noise of its own.", "batchgen begins with noise.")
    if first.partial and way.width is not None:
        findings.lost(
            first.node,
            f"begins at step {first.first + 1} of {first.steps} with an empty picture in place of noise alone.",
            f"batchgen begins with noise: num_inference_steps: {first.steps - first.first} is written.",
        )


def _handed_over(findings: Findings, passes: list[Pass], way: Way) -> tuple[Pass, list[Pass], dict[str, float]]:
    """The first pass with those that go on where it stops; the passes after it; a guidance window, if that is it."""
    first, rest, window = passes[0], passes[1:], dict[str, float]()
    while rest and first.last < first.steps and rest[0].first == first.last and not rest[0].noise:
        following = rest.pop(0)
        enlargements = way.between.pop(0)
        for one in enlargements:
            findings.lost(one.node, "enlarges a picture that is half denoised.", "It is left out.")
        window |= _joined(findings, first, following)
        first = Pass(
            first.node,
            first.seed,
            first.steps,
            first.first,
            following.last,
            max(first.cfg, following.cfg),
            first.sampler,
            first.schedule,
            first.model_at,
            first.positive_at if first.cfg >= following.cfg else following.positive_at,
            first.negative_at if first.cfg >= following.cfg else following.negative_at,
            first.noise,
        )
    if first.last < first.steps:
        findings.lost(
            first.node, f"stops at step {first.last} of {first.steps}.", "batchgen runs all of them: no noise is left."
        )
    return first, rest, window


def _joined(findings: Findings, first: Pass, following: Pass) -> dict[str, float]:
    """What becomes of a guidance that changes half way."""
    at, steps = first.last, first.steps
    same = (following.steps, following.sampler, following.schedule) == (steps, first.sampler, first.schedule)
    if not same or findings.graph.source(*following.model_at) is not findings.graph.source(*first.model_at):
        findings.lost(
            following.node,
            f"goes on from step {at + 1} with another model, sampler or schedule; batchgen has one for all steps.",
            f"Those of {first.node} are written.",
        )
    if following.cfg == first.cfg:
        return {}
    if 1 in (following.cfg, first.cfg):
        share = next(
            one for digits in range(1, 9) if int((one := -(-at * 10**digits // steps) / 10**digits) * steps) == at
        )
        return {"guidance_stop" if following.cfg == 1 else "guidance_start": share}
    findings.lost(
        following.node,
        f"goes on from step {at + 1} with cfg {following.cfg:g} after {first.cfg:g}; batchgen has one.",
        f"guidance_scale: {max(first.cfg, following.cfg):g} is written.",
    )
    return {}


def _skip(findings: Findings, image: Image, chain: Chain, first: Pass, steps: Steps) -> None:
    """Skip-layer guidance, its percentages as shares of the steps."""
    skip = chain.skip
    if skip is None:
        return
    most = PRESETS[chain.preset].transformer[0]
    layers = [layer for layer in skip.layers if layer < most]
    if layers != skip.layers:
        findings.lost(
            skip.node, f"names layers that {chain.preset} does not have (0 to {most - 1}).", "They are left out."
        )
    inside = percent.steps_within(steps.noise, skip.start, skip.end, skip.shift)
    if first.cfg <= 1 and inside:
        findings.lost(skip.node, "works without cfg in ComfyUI; in batchgen skip-layer guidance needs one above 1.", "")
        return
    if 0 in inside:
        findings.lost(skip.node, "is on in the first step too; in batchgen it begins with the second.", "")
        inside = inside[1:]
    if not inside or not layers:
        findings.lost(skip.node, "is on in no step of this schedule.", "It is left out.")
        return
    start, stop = percent.shares(inside, len(steps.noise), (skip.start, skip.end))
    image.sampling |= {
        "skip_layer_guidance_scale": skip.scale,
        "skip_guidance_layers": layers,
        "skip_layer_guidance_start": start,
        "skip_layer_guidance_stop": stop,
    }
    image.remarks["sampling.skip_layer_guidance_stop"] = (
        f"{percent.said(inside, len(steps.noise))}: what start_percent {skip.start:g} and end_percent {skip.end:g} are "
        f"at shift {skip.shift:g}"
    )


def _adapters(findings: Findings, image: Image, chain: Chain) -> None:
    if not chain.loras:
        return
    image.model["adapters"] = {lora.alias: {"path": lora.path, "scale": lora.scale} for lora in reversed(chain.loras)}
    chosen = max(chain.loras, key=lambda lora: abs(lora.scale))
    image.sampling["adapter"] = chosen.alias
    for lora in chain.loras:
        image.remarks[f"model.adapters.{lora.alias}"] = "add sha256 to say which file it must be"
        if lora is not chosen:
            findings.lost(
                lora.node,
                f"is applied together with {chosen.node}; batchgen applies one LoRA to an image.",
                f"adapter: {chosen.alias} is written: merge the two files, or choose.",
            )


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
