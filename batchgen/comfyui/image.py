"""One image of a workflow → the settings of a job and a row of its prompt table.

Decides what the first pass becomes, and joins passes that go on where another stops. Knows no links: its readers follow
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from batchgen.comfyui import shares
from batchgen.comfyui.findings import Reader
from batchgen.comfyui.passes import Pass, PassReader
from batchgen.comfyui.percent import in_words
from batchgen.comfyui.refine import RefineReader
from batchgen.comfyui.stage import Stage, StageReader
from batchgen.comfyui.way import Way
from batchgen.comfyui.weights import Chain, ModelReader
from batchgen.job.presets import PRESETS

T5_TOKENS = 77  # T5XXLTokenizer of comfy/text_encoders/sd3_clip.py pads to 77 and cuts nothing


@dataclass(slots=True)
class Image:
    """model, sampling, refine: sections of the job. row: of the prompt table. remarks: 'sampling.shift' → why."""

    model: dict[str, Any]
    sampling: dict[str, Any]
    row: dict[str, Any]
    refine: dict[str, Any] | None = None
    remarks: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ImageReader(Reader):
    way: Way
    models: ModelReader

    def read(self) -> Image:
        passes = PassReader(self.graph, self.findings)
        first, rest, window = self._handed_over([passes.read(node) for node in self.way.samplers])
        stages = StageReader(self.graph, self.findings, self.models)
        stage = stages.read(first, begin=0)
        vae = self.models.vae(self.way.decoder, stage.chain) if self.way.decoder else {}
        row = stage.texts.columns("prompt") | {"seed": first.seed}
        image = Image(stage.model | vae, self._sampling(stage) | window, row)
        self._say_beginning(first)
        self._skip(image, stage)
        self._adapters(image, stage.chain)
        if rest:
            size = image.sampling["width"], image.sampling["height"]
            refine = RefineReader(self.graph, self.findings, stages, stage)
            image.refine = refine.read(rest, self.way.between[0], size)
        return image

    def _handed_over(self, passes: list[Pass]) -> tuple[Pass, list[Pass], dict[str, float]]:
        """The first pass with those that go on where it stops; the passes after it; a guidance window, if that is it.

        ComfyUI's way of guiding some of the steps only is to hand over to a sampler with another cfg.
        """
        first, rest, window = passes[0], passes[1:], dict[str, float]()
        while rest and first.last < first.steps and rest[0].first == first.last and not rest[0].noise:
            following = rest.pop(0)
            for enlargement in self.way.between.pop(0):
                self.lost(enlargement.node, "enlarges a picture that is half denoised.", "It is left out.")
            window |= self._window(first, following)
            guided = first if first.cfg >= following.cfg else following
            first = replace(
                first,
                last=following.last,
                cfg=guided.cfg,
                positive_at=guided.positive_at,
                negative_at=guided.negative_at,
            )
        if first.last < first.steps:
            what = f"stops at step {first.last} of {first.steps}."
            self.lost(first.node, what, "batchgen runs all of them: no noise is left.")
        return first, rest, window

    def _window(self, first: Pass, following: Pass) -> dict[str, float]:
        """What becomes of a guidance that changes half way."""
        at, steps = first.last, first.steps
        same = (following.steps, following.sampler, following.schedule) == (steps, first.sampler, first.schedule)
        if not same or self.graph.source(*following.model_at) is not self.graph.source(*first.model_at):
            self.lost(
                following.node,
                f"goes on from step {at + 1} with another model, sampler or schedule; batchgen has one for all steps.",
                f"Those of {first.node} are written.",
            )
        if following.cfg == first.cfg:
            return {}
        if 1 in (following.cfg, first.cfg):
            return {"guidance_stop" if following.cfg == 1 else "guidance_start": shares.guidance(at, steps)}
        self.lost(
            following.node,
            f"goes on from step {at + 1} with cfg {following.cfg:g} after {first.cfg:g}; batchgen has one.",
            f"guidance_scale: {max(first.cfg, following.cfg):g} is written.",
        )
        return {}

    def _sampling(self, stage: Stage) -> dict[str, Any]:
        first, preset = stage.sampler, PRESETS[stage.chain.preset]
        sampling: dict[str, Any] = {
            "height": self.way.height or preset.height,
            "width": self.way.width or preset.width,
            "num_inference_steps": first.steps - first.first,
            "guidance_scale": first.cfg,
            "sampler": first.sampler,
            "schedule": first.schedule,
            "max_sequence_length": T5_TOKENS,
            "num_images_per_prompt": self.way.count,
        }
        if stage.chain.shift is not None:
            sampling["shift"] = stage.chain.shift
        if stage.negative is not None:
            sampling |= stage.negative.columns("negative_prompt")
        if stage.negative_stop < 1:
            sampling["negative_prompt_stop"] = stage.negative_stop
        return sampling

    def _say_beginning(self, first: Pass) -> None:
        if not first.noise:
            self.lost(first.node, "adds no noise of its own.", "batchgen begins with noise.")
        if first.first > 0 and self.way.width is not None:
            self.lost(
                first.node,
                f"begins at step {first.first + 1} of {first.steps} with an empty picture in place of noise alone.",
                f"batchgen begins with noise: num_inference_steps: {first.steps - first.first} is written.",
            )

    def _skip(self, image: Image, stage: Stage) -> None:
        """Skip-layer guidance, its percentages as shares of the steps."""
        skip, steps = stage.chain.skip, len(stage.steps.noise)
        if skip is None:
            return
        most = PRESETS[stage.chain.preset].transformer[0]
        layers = [layer for layer in skip.layers if layer < most]
        if layers != skip.layers:
            what = f"names layers that {stage.chain.preset} does not have (0 to {most - 1})."
            self.lost(skip.node, what, "They are left out.")
        inside = skip.within(stage.steps)
        if stage.sampler.cfg <= 1 and inside:
            self.lost(skip.node, "works without cfg in ComfyUI; in batchgen skip-layer guidance needs one above 1.")
            return
        if 0 in inside:
            self.lost(skip.node, "is on in the first step too; in batchgen it begins with the second.")
            inside = inside[1:]
        if not inside or not layers:
            self.lost(skip.node, "is on in no step of this schedule.", "It is left out.")
            return
        start, stop = shares.skip_window(inside, steps, (skip.start, skip.end))
        image.sampling |= {
            "skip_layer_guidance_scale": skip.scale,
            "skip_guidance_layers": layers,
            "skip_layer_guidance_start": start,
            "skip_layer_guidance_stop": stop,
        }
        image.remarks["sampling.skip_layer_guidance_stop"] = (
            f"{in_words(inside, steps)}: what start_percent {skip.start:g} and end_percent {skip.end:g} are "
            f"at shift {skip.shift:g}"
        )

    def _adapters(self, image: Image, chain: Chain) -> None:
        if not chain.loras:
            return
        adapters = {lora.alias: {"path": lora.path, "scale": lora.scale} for lora in reversed(chain.loras)}
        chosen = max(chain.loras, key=lambda lora: abs(lora.scale))
        image.model["adapters"], image.sampling["adapter"] = adapters, chosen.alias
        for lora in chain.loras:
            image.remarks[f"model.adapters.{lora.alias}"] = "add sha256 to say which file it must be"
            if lora is not chosen:
                self.lost(
                    lora.node,
                    f"is applied together with {chosen.node}; batchgen applies one LoRA to an image.",
                    f"adapter: {chosen.alias} is written: merge the two files, or choose.",
                )
