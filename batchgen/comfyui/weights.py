"""The model behind a sampler, a text and a decoder → `model:` of a job, with what is set on the way.

Follows links upstream, from loader to sampler in reverse. Knows loaders, LoRAs, shift and skip-layer guidance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from batchgen.comfyui import percent
from batchgen.comfyui.findings import Findings
from batchgen.comfyui.graph import Node, printable
from batchgen.comfyui.places import Models, encoder_named, preset_named

CHECKPOINTS = ("CheckpointLoaderSimple", "CheckpointLoader")
LORAS = ("LoraLoader", "LoraLoaderModelOnly")
SKIPS = {"SkipLayerGuidanceSD3": "layers", "SkipLayerGuidanceDiT": "double_layers"}
NO_EFFECT = ("TorchCompileModel", "PatchSageAttentionKJ")  # on what is computed; on how fast only
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
CLIP_LOADERS = {
    "TripleCLIPLoader": ("clip_name1", "clip_name2", "clip_name3"),
    "DualCLIPLoader": ("clip_name1", "clip_name2"),
    "CLIPLoader": ("clip_name",),
}


@dataclass(frozen=True, slots=True)
class Lora:
    node: Node
    alias: str
    path: str
    scale: float


@dataclass(frozen=True, slots=True)
class Skip:
    """Skip-layer guidance; start, end: percentages, which mean levels at this shift."""

    node: Node
    layers: list[int]
    scale: float
    start: float
    end: float
    shift: float


@dataclass(slots=True)
class Chain:
    """What lies between a loader and a sampler. loras: the one nearest the sampler first."""

    preset: str = "sd3.5-medium"
    path: str | None = None
    float8: bool = False
    shift: float | None = None
    skip: Skip | None = None
    loras: list[Lora] = field(default_factory=list)
    loader: Node | None = None

    def model(self) -> dict[str, Any]:
        """Of `model:`, what the transformer's file decides."""
        section: dict[str, Any] = {"preset": self.preset}
        if self.path is not None:
            section["pretrained_model_name_or_path"] = self.path
        if self.float8:
            section["quantization"] = {"transformer": "float8"}
        return section


def read_chain(findings: Findings, models: Models, sampler: Node, name: str = "model") -> Chain:
    """From an input of type MODEL up to the loader."""
    chain, step = Chain(), findings.source(sampler, name)
    while step is not None:
        node = step[0]
        if "model" not in node.links() and "model" not in node.absent:
            _read_loader(findings, models, node, chain)
            break
        if node.kind in LORAS:
            _read_lora(findings, models, node, chain)
        elif node.kind == "ModelSamplingSD3":
            shift = findings.number(node, "shift", percent.SHIFT, 0.01, 100.0)
            chain.shift = shift if chain.shift is None else chain.shift
        elif node.kind in SKIPS:
            _read_skip(findings, node, chain)
        elif node.kind not in NO_EFFECT:
            findings.lost(node, "changes the model in a way that batchgen does not know.", "It is left out.")
        step = findings.source(node, "model")
    return chain


def _read_loader(findings: Findings, models: Models, node: Node, chain: Chain) -> None:
    chain.loader = node
    kind, name = "checkpoint", "ckpt_name"
    if node.kind == "UNETLoader":
        kind, name = "transformer", "unet_name"
        _read_weight_dtype(findings, node, chain)
    elif node.kind not in CHECKPOINTS:
        told = [value for value in (*node.inputs.values(), *node.values) if isinstance(value, str)]
        chain.preset = preset_named(*told) or chain.preset
        findings.lost(
            node,
            "loads a model in a way that batchgen does not know.",
            f"preset: {chain.preset} is written, with the weights of the hub: write the path of a safetensors file.",
        )
        return
    file = findings.text(node, name)
    found = preset_named(file)
    if found is None:
        findings.lost(
            node,
            f"the name {printable(file)} does not say which model it is.",
            f"preset: {chain.preset} is written: correct it if it is another.",
        )
    chain.preset = found or chain.preset
    chain.path = models.path(findings, node, kind, file)


def _read_weight_dtype(findings: Findings, node: Node, chain: Chain) -> None:
    dtype = findings.text(node, "weight_dtype", "default")
    chain.float8 = dtype.startswith("fp8")
    if dtype not in ("default", "fp8_e4m3fn"):
        written = "quantization: {transformer: float8}" if chain.float8 else "bfloat16"
        findings.lost(node, f"weight_dtype {printable(dtype)} has no equal in batchgen.", f"{written} is written.")


def _read_lora(findings: Findings, models: Models, node: Node, chain: Chain) -> None:
    file = findings.text(node, "lora_name")
    scale = findings.number(node, "strength_model", 1.0, -10.0, 10.0)
    if node.kind == "LoraLoader":
        clip = findings.number(node, "strength_clip", 1.0, -10.0, 10.0)
        if clip != scale:
            findings.lost(
                node,
                f"has strength {scale:g} for the model and {clip:g} for the text encoders; batchgen has one scale.",
                f"{scale:g} is written.",
            )
    if scale == 0:
        return
    path = models.path(findings, node, "lora", file)
    if path is not None:
        taken = {lora.alias for lora in chain.loras}
        chain.loras.append(Lora(node, _alias(file, taken), path, scale))


def _alias(file: str, taken: set[str]) -> str:
    """A name as config.model.Alias takes it."""
    stem = PurePosixPath(file.replace("\\", "/")).stem
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:60] or "lora"
    return next(name for name in (plain, *(f"{plain}-{number}" for number in range(2, 99))) if name not in taken)


def _read_skip(findings: Findings, node: Node, chain: Chain) -> None:
    layers = sorted({int(layer) for layer in re.findall(r"\d{1,4}", findings.text(node, SKIPS[node.kind]))})
    scale = findings.number(node, "scale", 3.0, 0.0, 50.0)
    start = findings.number(node, "start_percent", 0.01, 0.0, 1.0)
    end = findings.number(node, "end_percent", 0.15, 0.0, 1.0)
    if findings.number(node, "rescaling_scale", 0.0, 0.0, 10.0):
        findings.lost(node, "rescaling_scale has no equal in batchgen.", "It is left out.")
    if not layers or scale == 0:
        return
    if chain.skip is not None:
        findings.lost(node, f"is added to that of {chain.skip.node}; batchgen has one.", "It is left out.")
        return
    chain.skip = Skip(node, layers, scale, start, end, _shift_behind(findings, node))


def _shift_behind(findings: Findings, node: Node) -> float:
    """The shift that a node sees: of the next ModelSamplingSD3 upstream, or the model's own."""
    while (onward := findings.graph.source(node, "model")) is not None:
        node = onward
        if node.kind == "ModelSamplingSD3":
            return findings.number(node, "shift", percent.SHIFT, 0.01, 100.0)
    return percent.SHIFT


def read_encoders(findings: Findings, models: Models, text: Node, chain: Chain) -> dict[str, Any]:
    """Of `model:`, the text encoders that a node of text reads with."""
    step = findings.source(text, "clip")
    while step is not None:
        node = step[0]
        if node.kind in CLIP_LOADERS:
            return _read_clips(findings, models, node)
        if "clip" not in node.links() and "clip" not in node.absent:
            return _read_own(findings, node, chain)
        if node.kind == "CLIPSetLastLayer":
            findings.lost(node, "clip skip has no equal in batchgen.", "The layer that SD3 was trained with is read.")
        elif node.kind not in LORAS:
            findings.lost(node, "changes the text encoders in a way that batchgen does not know.", "It is left out.")
        elif all(lora.node is not node for lora in chain.loras):
            findings.lost(node, "is applied to the text encoders alone.", "It is left out.")
        step = findings.source(node, "clip")
    return {}


def _read_own(findings: Findings, node: Node, chain: Chain) -> dict[str, Any]:
    """Encoders inside a checkpoint: what its name says of them (sd3_medium_incl_clips.safetensors has no T5)."""
    if node.kind not in CHECKPOINTS:
        findings.lost(
            node,
            "loads text encoders in a way that batchgen does not know.",
            "Those of the model are taken: write text_encoder, text_encoder_2 and text_encoder_3 for others.",
        )
        return {}
    name = findings.text(node, "ckpt_name").lower()
    if node is not chain.loader:
        findings.lost(node, "only its text encoders are used.", "Write their files as model.text_encoder, _2 and _3.")
    return {"text_encoder_3": None} if "incl_clips" in name and "t5" not in name else {}


def _read_clips(findings: Findings, models: Models, node: Node) -> dict[str, Any]:
    files = [findings.text(node, name) for name in CLIP_LOADERS[node.kind]]
    kind = findings.text(node, "type", "sd3")
    if kind != "sd3":
        findings.lost(node, f"its type is {printable(kind)}, batchgen renders SD3.", "It is read as sd3.")
    named = _assign(findings, node, files)
    section: dict[str, Any] = {}
    for part in ENCODERS:
        file = named.get(part)
        path = models.path(findings, node, "text encoder", file) if file is not None else None
        if path is not None:
            section[part] = path
        elif file is None and part == "text_encoder_3":
            section[part] = None
        elif file is None:
            findings.lost(
                node,
                f"leaves {'CLIP-L' if part == 'text_encoder' else 'CLIP-G'} out; batchgen can only leave T5 out.",
                f"{part} is the checkpoint's own.",
            )
    return section


def _assign(findings: Findings, node: Node, files: list[str]) -> dict[str, str]:
    """Which file is which encoder: ComfyUI looks inside, batchgen has their names; a single unknown is what is left."""
    named: dict[str, str] = {}
    unknown: list[str] = []
    for file in files:
        part = encoder_named(file)
        if part is None or part in named:
            unknown.append(file)
        else:
            named[part] = file
    left: Iterable[str] = [part for part in ENCODERS if part not in named]
    for part, file in zip(left, unknown, strict=False):
        named[part] = file
        findings.lost(
            node, f"the name {printable(file)} does not say which encoder it is.", f"It is written as {part}: check it."
        )
    return named


def read_vae(findings: Findings, models: Models, decoder: Node, chain: Chain) -> dict[str, Any]:
    """Of `model:`, the VAE that an image is decoded with, and how."""
    section: dict[str, Any] = {"vae_tiling": True} if decoder.kind == "VAEDecodeTiled" else {}
    found = findings.source(decoder, "vae")
    if found is None:
        return section
    node = found[0]
    if node.kind == "VAELoader":
        file = findings.text(node, "vae_name")
        if PurePosixPath(file).suffix == "":  # taesd3, pixel_space: made by ComfyUI, not loaded
            findings.lost(node, f"{printable(file)} is no VAE of SD3.", "The checkpoint's own is taken.")
        elif path := models.path(findings, node, "vae", file):
            section["vae"] = path
    elif node.kind not in CHECKPOINTS:
        findings.lost(node, "loads a VAE in a way that batchgen does not know.", "The checkpoint's own is taken.")
    elif (
        chain.loader is not None and chain.loader.kind not in CHECKPOINTS
    ):  # all of SD3 has one VAE, but it must be there
        findings.lost(node, f"only its VAE is used, and {chain.loader} has none.", "Write its file as model.vae.")
    return section
