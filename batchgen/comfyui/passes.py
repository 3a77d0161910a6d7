"""Sampler nodes of any kind → one description of a pass: seed, steps, guidance, sampler, schedule, where it begins.

Knows KSampler, KSamplerAdvanced, SamplerCustom and SamplerCustomAdvanced with the nodes that feed them settings; not
what their models and prompts are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from batchgen.columns import MAX_GUIDANCE, MAX_IMAGES_PER_PROMPT, MAX_SEED, MAX_STEPS, NOISES
from batchgen.comfyui import shares
from batchgen.comfyui.findings import Reader
from batchgen.comfyui.graph import Node, printable
from batchgen.job.sampling import Sampler, Schedule

KINDS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
MOST_STEPS = 10_000  # of KSamplerAdvanced's start_at_step and end_at_step; the default of the latter


@dataclass(frozen=True, slots=True)
class Pass:
    """One sampler node. steps: of the whole schedule, of which those from `first` to before `last` run.

    strength: the share of all steps that run, as refine.strength counts them.
    model_at, positive_at, negative_at: (node, input) to follow; negative_at None where nothing is guided against.
    noise: fresh noise is added at the beginning.
    """

    node: Node
    steps: int
    first: int
    last: int
    strength: float
    seed: int
    cfg: float
    sampler: str
    schedule: str
    model_at: tuple[Node, str]
    positive_at: tuple[Node, str]
    negative_at: tuple[Node, str] | None
    noise: bool


class PassReader(Reader):
    def read(self, node: Node) -> Pass:
        return self._custom(node) if node.kind.startswith("SamplerCustom") else self._basic(node)

    def _basic(self, node: Node) -> Pass:
        """KSampler and KSamplerAdvanced have all settings themselves."""
        advanced = node.kind == "KSamplerAdvanced"
        steps, first, last, strength = self._from_to(node) if advanced else self._denoised(node, node)
        return Pass(
            node,
            steps=steps,
            first=first,
            last=last,
            strength=strength,
            seed=self._seed(node, "noise_seed" if advanced else "seed"),
            cfg=self._cfg(node),
            sampler=self._sampler(node),
            schedule=self._schedule(node),
            model_at=(node, "model"),
            positive_at=(node, "positive"),
            negative_at=(node, "negative"),
            noise=not advanced or self.text(node, "add_noise", "enable") == "enable",
        )

    def _custom(self, node: Node) -> Pass:
        """SamplerCustom has prompts and seed itself; SamplerCustomAdvanced has a guider and a noise for them."""
        guider, noise = node, node
        if node.kind == "SamplerCustomAdvanced":
            guider, noise = self._part(node, "guider"), self._part(node, "noise")
        selector, scheduler = self._part(node, "sampler"), self._part(node, "sigmas")
        guided = guider.kind != "BasicGuider"
        if guider.kind not in (*KINDS, "CFGGuider", "BasicGuider"):
            self.lost(guider, "guides in a way that batchgen does not know.", "It is read like CFGGuider.")
        if scheduler.kind != "BasicScheduler":
            self.lost(scheduler, "makes noise levels that batchgen does not know.", "schedule: normal is written.")
        if selector.kind != "KSamplerSelect":
            self.lost(selector, "is a sampler that batchgen does not know.", "sampler: euler is written.")
        steps, first, last, strength = self._denoised(scheduler, node)
        return Pass(
            node,
            steps=steps,
            first=first,
            last=last,
            strength=strength,
            seed=self._seed(noise, "noise_seed"),
            cfg=self._cfg(guider) if guided else 1.0,
            sampler=self._sampler(selector) if selector.kind == "KSamplerSelect" else "euler",
            schedule=self._schedule(scheduler) if scheduler.kind == "BasicScheduler" else "normal",
            model_at=(guider, "model"),
            positive_at=(guider, "positive" if guided else "conditioning"),
            negative_at=(guider, "negative") if guided else None,
            noise=noise.kind != "DisableNoise" and noise.inputs.get("add_noise", True) is not False,
        )

    def _part(self, node: Node, name: str) -> Node:
        """The node that feeds an input; the node itself where nothing does, which is a problem already."""
        return self.feeding(node, name) or node

    def _seed(self, node: Node, name: str) -> int:
        """ComfyUI's seeds go up to 2**64 - 1. Of a larger one than batchgen's, those bits are kept that torch takes."""
        seed = self.whole(node, name, 0, 0, 2**64 - 1)
        folded = seed if seed <= MAX_SEED - MAX_IMAGES_PER_PROMPT else seed % NOISES
        if folded != seed:
            self.lost(
                node,
                f"{name} {seed} is larger than batchgen's seeds.",
                f"{folded} is written, which is the same noise.",
            )
        return folded

    def _cfg(self, node: Node) -> float:
        cfg = self.number(node, "cfg", 4.5, 0.0, MAX_GUIDANCE)
        if cfg < 1:
            self.lost(
                node,
                f"cfg {cfg:g} mixes the negative prompt in; batchgen has guidance above 1, or none.",
                "guidance_scale: 1 is written, which is none.",
            )
        return max(cfg, 1.0)

    def _sampler(self, node: Node) -> str:
        """ddim is ComfyUI's other name for euler, where nothing is inpainted."""
        name = self.text(node, "sampler_name", "euler")
        if name in (*get_args(Sampler), "ddim"):
            return "euler" if name == "ddim" else name
        nearest = "dpmpp_2m" if name.startswith(("dpmpp", "uni_pc", "dpm_", "res_")) else "euler"
        if "ancestral" in name or "sde" in name:
            nearest = "euler_ancestral"
        self.lost(node, f"sampler {printable(name)} is none of batchgen's.", f"sampler: {nearest} is written.")
        return nearest

    def _schedule(self, node: Node) -> str:
        name = self.text(node, "scheduler", "normal")
        if name in get_args(Schedule):
            return name
        nearest = "sgm_uniform" if name == "ddim_uniform" else "beta" if name == "kl_optimal" else "normal"
        self.lost(node, f"scheduler {printable(name)} is none of batchgen's.", f"schedule: {nearest} is written.")
        return nearest

    def _from_to(self, node: Node) -> tuple[int, int, int, float]:
        """(steps, first, last, strength) of a Pass whose node names the steps that run."""
        steps = self.whole(node, "steps", 20, 1, MAX_STEPS)
        first = min(self.whole(node, "start_at_step", 0, 0, MOST_STEPS), steps - 1)
        last = min(self.whole(node, "end_at_step", MOST_STEPS, 0, MOST_STEPS), steps)
        return steps, first, max(last, first + 1), shares.strength(steps - first, steps)

    def _denoised(self, node: Node, sampler: Node) -> tuple[int, int, int, float]:
        """(steps, first, last, strength) of a Pass whose node has `steps` and `denoise`.

        ComfyUI runs the last `steps` of int(steps / denoise) (KSampler.set_steps).
        """
        run = self.whole(node, "steps", 20, 1, MAX_STEPS)
        denoise = self.number(node, "denoise", 1.0, 0.0, 1.0)
        if denoise <= 0:
            self.wrong(sampler, "denoise is 0, so that it does nothing. Mute it (Ctrl+M), or raise denoise.")
        if denoise <= 0 or denoise > 0.9999:
            return run, 0, run, 1.0
        steps = int(run / denoise)
        if steps > MAX_STEPS:
            whole, kept = steps, max(1, int(MAX_STEPS * denoise))
            self.lost(
                node,
                f"{run} steps at denoise {denoise:g} end a schedule of {whole}; batchgen has {MAX_STEPS} at most.",
                f"{kept} of {MAX_STEPS} are written.",
            )
            steps, run = MAX_STEPS, kept
        return steps, steps - run, steps, shares.strength(run, steps, near=denoise)
