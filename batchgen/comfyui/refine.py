"""The passes after the first → `refine:` of a job, and what of them it cannot say.

Knows the stage that a second pass goes on from, and what enlarges its picture on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from batchgen.comfyui.findings import Reader
from batchgen.comfyui.passes import Pass
from batchgen.comfyui.percent import in_words
from batchgen.comfyui.stage import Stage, StageReader
from batchgen.comfyui.way import Enlargement
from batchgen.comfyui.weights import Chain

METHODS = ("nearest-exact", "bilinear", "bicubic")  # job.sampling.Refine.upscale_method
NEAREST_METHODS = {"area": "bilinear", "bislerp": "bicubic", "lanczos": "bicubic"}
SCALES = (1.0, 4.0)  # job.sampling.Refine.scale
EVEN = 0.02  # sides whose factors differ by less come from rounding to the latents' grid


@dataclass(slots=True)
class RefineReader(Reader):
    stages: StageReader
    first: Stage

    def read(self, passes: list[Pass], between: list[Enlargement], size: tuple[int, int]) -> dict[str, Any]:
        """passes: those after the first, of which one becomes `refine:`. size: (width, height) of the first picture."""
        sampler = passes[0]
        for later in passes[1:]:
            self.lost(later.node, "is a third pass or more; batchgen has two.", "It is left out.")
        second = self.stages.read(sampler, begin=sampler.first)
        section = self._enlarged(sampler, between, size) | {
            "strength": sampler.strength,
            "num_inference_steps": sampler.steps,
            "guidance_scale": sampler.cfg,
        }
        same_model = second.model.items() <= self.first.model.items()
        if not same_model:
            section["model"] = second.model
        self._say_differences(second)
        self._say_loras(second.chain, same_model)
        self._say_texts(second)
        self._say_skip(second)
        return section

    def _enlarged(self, second: Pass, between: list[Enlargement], size: tuple[int, int]) -> dict[str, Any]:
        """scale and upscale_method."""
        width, height = map(float, size)
        method = METHODS[0]
        for step in between:
            if step.pixels:
                self.lost(
                    step.node, "enlarges the decoded picture; batchgen enlarges latents.", "The factor is written."
                )
            method = self._method(step)
            if step.to is None:
                width, height = width * step.factor, height * step.factor
            else:  # 0: keep the aspect ratio
                wide, high = step.to
                width, height = wide or width * high / height or width, high or height * wide / width or height
        across, up = width / size[0], height / size[1]
        scale = across if across == up else math.sqrt(across * up)
        node = between[-1].node if between else second.node
        if abs(across - up) > EVEN:
            self.lost(node, f"scales by {across:.3g} and {up:.3g}; batchgen keeps the shape.")
        taken = min(max(round(scale, 4), SCALES[0]), SCALES[1])
        if abs(taken - scale) > EVEN:
            self.lost(node, f"scales by {scale:.3g}; batchgen by 1 to 4.", f"scale: {taken:g} is written.")
        return {"scale": taken} | ({"upscale_method": method} if between else {})

    def _method(self, step: Enlargement) -> str:
        if step.method in METHODS:
            return step.method
        nearest = NEAREST_METHODS.get(step.method, METHODS[0])
        self.lost(
            step.node, f"{step.method!r} is none of batchgen's methods.", f"upscale_method: {nearest} is written."
        )
        return nearest

    def _say_differences(self, second: Stage) -> None:
        """Both passes of batchgen have one sampler, schedule and shift."""
        theirs, own = self.first.sampler, second.sampler
        settings = {
            "sampler": (theirs.sampler, own.sampler),
            "schedule": (theirs.schedule, own.schedule),
            "shift": (self.first.chain.true_shift, second.chain.true_shift),
        }
        for name, (before, after) in settings.items():
            if before != after:
                what = f"has {name} {after} after {before}; batchgen has one for both passes."
                self.lost(own.node, what, f"{before} is written.")
        if not own.noise:
            self.lost(own.node, "adds no noise to the first picture.", "batchgen does.")
        if own.last < own.steps:
            self.lost(own.node, f"stops at step {own.last} of {own.steps}.", "batchgen runs all of them.")

    def _say_loras(self, chain: Chain, same_model: bool) -> None:
        before = {(lora.path, lora.scale) for lora in self.first.chain.loras}
        after = {(lora.path, lora.scale) for lora in chain.loras}
        for lora in chain.loras:
            if not same_model or (lora.path, lora.scale) not in before:
                self.lost(lora.node, "is applied in the second pass only.", "It is left out there.")
        for lora in self.first.chain.loras:
            if same_model and (lora.path, lora.scale) not in after:
                self.lost(lora.node, "is applied in the first pass only; batchgen applies it in both.")

    def _say_texts(self, second: Stage) -> None:
        node, first = second.sampler.node, self.first
        if second.texts != first.texts:
            what = "has another prompt than the first pass; batchgen reads one."
            self.lost(node, what, "The first is written.")
        if None not in (second.negative, first.negative) and second.negative != first.negative:
            what = "has another negative prompt than the first pass; batchgen has one."
            self.lost(node, what, "The first is written.")

    def _say_skip(self, second: Stage) -> None:
        skip = second.chain.skip
        if skip is not None and (inside := skip.within(second.steps)):
            steps = in_words(inside, len(second.steps.noise))
            what = f"is on in {steps} of the second pass; batchgen's second pass has no skip-layer guidance."
            self.lost(skip.node, what, "It is left out there.")
