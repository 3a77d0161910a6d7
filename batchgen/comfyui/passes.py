"""Sampler nodes of any kind → one description of a pass: seed, steps, guidance, sampler, schedule, where it begins.

Knows KSampler, KSamplerAdvanced, SamplerCustom and SamplerCustomAdvanced with what feeds them; not what their models
and prompts are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from batchgen.columns import MAX_GUIDANCE, MAX_IMAGES_PER_PROMPT, MAX_SEED, MAX_STEPS
from batchgen.comfyui.findings import Findings
from batchgen.comfyui.graph import Node, printable
from batchgen.job.sampling import Sampler, Schedule

KINDS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
MOST_STEPS = 10_000  # of KSamplerAdvanced's start_at_step and end_at_step; the default of the latter


@dataclass(frozen=True, slots=True)
class Pass:
    """One sampler node. steps: of the whole schedule, of which those from `first` to before `last` run.

    model_at, positive_at, negative_at: (node, input) to follow; negative_at None where nothing is guided against.
    noise: fresh noise is added at the beginning.
    """

    node: Node
    seed: int
    steps: int
    first: int
    last: int
    cfg: float
    sampler: str
    schedule: str
    model_at: tuple[Node, str]
    positive_at: tuple[Node, str]
    negative_at: tuple[Node, str] | None
    noise: bool = True
    strength: float = field(default=1.0)

    @property
    def partial(self) -> bool:
        """Whether it begins at less than full noise."""
        return self.first > 0


def read_pass(findings: Findings, node: Node) -> Pass:
    if node.kind == "KSampler":
        return _basic(findings, node)
    if node.kind == "KSamplerAdvanced":
        return _advanced(findings, node)
    return _custom(findings, node)


def _basic(findings: Findings, node: Node) -> Pass:
    steps, first, strength = _denoised(findings, node, node)
    return Pass(
        node,
        seed=_seed(findings, node, "seed"),
        steps=steps,
        first=first,
        last=steps,
        cfg=_cfg(findings, node),
        sampler=_sampler(findings, node),
        schedule=_schedule(findings, node),
        model_at=(node, "model"),
        positive_at=(node, "positive"),
        negative_at=(node, "negative"),
        strength=strength,
    )


def _advanced(findings: Findings, node: Node) -> Pass:
    steps = findings.whole(node, "steps", 20, 1, MAX_STEPS)
    first = min(findings.whole(node, "start_at_step", 0, 0, MOST_STEPS), steps - 1)
    last = min(findings.whole(node, "end_at_step", MOST_STEPS, 0, MOST_STEPS), steps)
    return Pass(
        node,
        seed=_seed(findings, node, "noise_seed"),
        steps=steps,
        first=first,
        last=max(last, first + 1),
        cfg=_cfg(findings, node),
        sampler=_sampler(findings, node),
        schedule=_schedule(findings, node),
        model_at=(node, "model"),
        positive_at=(node, "positive"),
        negative_at=(node, "negative"),
        noise=findings.text(node, "add_noise", "enable") == "enable",
        strength=strength_of(steps - first, steps),
    )


def _custom(findings: Findings, node: Node) -> Pass:
    """SamplerCustom has prompts and seed itself; SamplerCustomAdvanced has a guider and a noise for them."""
    guider, noise = node, node
    if node.kind == "SamplerCustomAdvanced":
        guider, noise = _fed_by(findings, node, "guider"), _fed_by(findings, node, "noise")
    selector, scheduler = _fed_by(findings, node, "sampler"), _fed_by(findings, node, "sigmas")
    guided = guider.kind != "BasicGuider"
    if guider.kind not in (*KINDS, "CFGGuider", "BasicGuider"):
        findings.lost(guider, "guides in a way that batchgen does not know.", "It is read like CFGGuider.")
    if scheduler.kind != "BasicScheduler":
        findings.lost(scheduler, "makes noise levels that batchgen does not know.", "schedule: normal is written.")
    if selector.kind != "KSamplerSelect":
        findings.lost(selector, "is a sampler that batchgen does not know.", "sampler: euler is written.")
    steps, first, strength = _denoised(findings, scheduler, node)
    return Pass(
        node,
        seed=_seed(findings, noise, "noise_seed"),
        steps=steps,
        first=first,
        last=steps,
        cfg=_cfg(findings, guider) if guided else 1.0,
        sampler=_sampler(findings, selector) if selector.kind == "KSamplerSelect" else "euler",
        schedule=_schedule(findings, scheduler) if scheduler.kind == "BasicScheduler" else "normal",
        model_at=(guider, "model"),
        positive_at=(guider, "positive" if guided else "conditioning"),
        negative_at=(guider, "negative") if guided else None,
        noise=noise.kind != "DisableNoise" and noise.inputs.get("add_noise", True) is not False,
        strength=strength,
    )


def _fed_by(findings: Findings, node: Node, name: str) -> Node:
    """The node that an input is linked to; without one, which is a problem, the node itself."""
    found = findings.source(node, name)
    return found[0] if found else node


def _seed(findings: Findings, node: Node, name: str) -> int:
    """ComfyUI's seeds go up to 2**64 - 1. The noise is another here anyway: a large one is folded, and said to be."""
    seed = findings.whole(node, name, 0, 0, 2**64 - 1)
    folded = seed % (MAX_SEED - MAX_IMAGES_PER_PROMPT)  # so that there are seeds for all its images
    if folded != seed:
        findings.lost(node, f"{name} {seed} is larger than batchgen's seeds.", f"{folded} is written.")
    return folded


def _cfg(findings: Findings, node: Node) -> float:
    cfg = findings.number(node, "cfg", 4.5, 0.0, MAX_GUIDANCE)
    if cfg < 1:
        findings.lost(
            node,
            f"cfg {cfg:g} mixes the negative prompt in; batchgen has guidance above 1, or none.",
            "guidance_scale: 1 is written, which is none.",
        )
    return max(cfg, 1.0)


def _sampler(findings: Findings, node: Node) -> str:
    """ddim is ComfyUI's other name for euler, where nothing is inpainted."""
    name = findings.text(node, "sampler_name", "euler")
    if name in (*get_args(Sampler), "ddim"):
        return "euler" if name == "ddim" else name
    nearest = "dpmpp_2m" if name.startswith(("dpmpp", "uni_pc", "dpm_", "res_")) else "euler"
    if "ancestral" in name or "sde" in name:
        nearest = "euler_ancestral"
    findings.lost(node, f"sampler {printable(name)} is none of batchgen's.", f"sampler: {nearest} is written.")
    return nearest


def _schedule(findings: Findings, node: Node) -> str:
    name = findings.text(node, "scheduler", "normal")
    if name in get_args(Schedule):
        return name
    nearest = "sgm_uniform" if name == "ddim_uniform" else "beta" if name == "kl_optimal" else "normal"
    findings.lost(node, f"scheduler {printable(name)} is none of batchgen's.", f"schedule: {nearest} is written.")
    return nearest


def _denoised(findings: Findings, node: Node, sampler: Node) -> tuple[int, int, float]:
    """(steps of the whole schedule, first one that runs, share) of steps and denoise.

    ComfyUI runs the last `steps` of int(steps / denoise) (KSampler.set_steps).
    """
    run = findings.whole(node, "steps", 20, 1, MAX_STEPS)
    denoise = findings.number(node, "denoise", 1.0, 0.0, 1.0)
    if denoise > 0.9999:
        return run, 0, 1.0
    if denoise <= 0:
        findings.wrong(sampler, "denoise is 0, so that it does nothing. Mute it (Ctrl+M), or raise denoise.")
        return run, 0, 1.0
    steps = int(run / denoise)
    if steps > MAX_STEPS:
        whole, kept = steps, max(1, int(MAX_STEPS * denoise))
        findings.lost(
            node,
            f"{run} steps at denoise {denoise:g} end a schedule of {whole}; batchgen has {MAX_STEPS} at most.",
            f"{kept} of {MAX_STEPS} are written.",
        )
        steps, run = MAX_STEPS, kept
    near = denoise if _runs(denoise, steps) == run else None
    return steps, steps - run, near or strength_of(run, steps)


def strength_of(run: int, steps: int) -> float:
    """The shortest share for which the last `run` of `steps` run, as batchgen and diffusers count (refine.strength)."""
    shares = (int(run / steps * 10**digits) / 10**digits for digits in range(1, 9))
    exact = next((share for share in shares if share > 0 and _runs(share, steps) == run), None)
    return exact or (run - 0.5) / steps  # where no short one survives the rounding of a product


def _runs(strength: float, steps: int) -> int:
    """get_timesteps of diffusers' image-to-image pipelines (0.42.1)."""
    return steps - int(max(steps - min(steps * strength, steps), 0))
