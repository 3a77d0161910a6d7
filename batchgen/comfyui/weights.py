"""The model behind a sampler, a text and a decoder → `model:` of a job, with what is set on the way.

Follows links upstream, from the sampler to the loader. Knows loaders, LoRAs, shift and skip-layer guidance; with a
folder of models it looks whether a file is there, and opens none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from batchgen.comfyui.findings import Reader
from batchgen.comfyui.graph import Node, printable
from batchgen.comfyui.percent import SHIFT, Steps
from batchgen.comfyui.places import FOLDERS, encoder_named, preset_named, relative

CHECKPOINTS = ("CheckpointLoaderSimple", "CheckpointLoader")
LORAS = ("LoraLoader", "LoraLoaderModelOnly")
SKIPS = {"SkipLayerGuidanceSD3": "layers", "SkipLayerGuidanceDiT": "double_layers"}
NO_EFFECT = ("TorchCompileModel", "PatchSageAttentionKJ")  # they change how fast it is, not what comes out
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
    """Skip-layer guidance. start, end: percentages, which mean noise levels at this shift."""

    node: Node
    layers: list[int]
    scale: float
    start: float
    end: float
    shift: float

    def within(self, steps: Steps) -> range:
        """The steps of a pass in which it is on, whatever shift the pass itself has."""
        return replace(steps, shift=self.shift).within(self.start, self.end)


@dataclass(slots=True)
class Chain:
    """What lies between a loader and a sampler. shift: None is the model's own. loras: nearest the sampler first."""

    preset: str = "sd3.5-medium"
    path: str | None = None
    float8: bool = False
    shift: float | None = None
    skip: Skip | None = None
    loras: list[Lora] = field(default_factory=list)
    loader: Node | None = None

    @property
    def true_shift(self) -> float:
        return SHIFT if self.shift is None else self.shift

    def model(self) -> dict[str, Any]:
        """Of `model:`, what the transformer's file decides."""
        section: dict[str, Any] = {"preset": self.preset}
        if self.path is not None:
            section["pretrained_model_name_or_path"] = self.path
        if self.float8:
            section["quantization"] = {"transformer": "float8"}
        return section


@dataclass(slots=True)
class ModelReader(Reader):
    """folder: ComfyUI's folder of models, as the user gave it; None: its name is written, to be completed by hand."""

    folder: Path | None = None

    def chain(self, sampler: Node, name: str) -> Chain:
        """From an input of type MODEL up to the loader."""
        chain, node = Chain(), self.feeding(sampler, name)
        while node is not None:
            if "model" not in node.links() and "model" not in node.absent:
                self._read_loader(node, chain)
                break
            if node.kind in LORAS:
                self._read_lora(node, chain)
            elif node.kind == "ModelSamplingSD3":
                shift = self._shift(node)
                chain.shift = shift if chain.shift is None else chain.shift
            elif node.kind in SKIPS:
                self._read_skip(node, chain)
            elif node.kind not in NO_EFFECT:
                self.lost(node, "changes the model in a way that batchgen does not know.", "It is left out.")
            node = self.feeding(node, "model")
        return chain

    def encoders(self, text: Node, chain: Chain) -> dict[str, Any]:
        """Of `model:`, the text encoders that a node of text reads with."""
        node = self.feeding(text, "clip")
        while node is not None:
            if node.kind in CLIP_LOADERS:
                return self._read_clips(node)
            if "clip" not in node.links() and "clip" not in node.absent:
                return self._read_own(node, chain)
            if node.kind == "CLIPSetLastLayer":
                self.lost(node, "clip skip has no equal in batchgen.", "The layer that SD3 was trained with is read.")
            elif node.kind not in LORAS:
                self.lost(node, "changes the text encoders in a way that batchgen does not know.", "It is left out.")
            elif all(lora.node is not node for lora in chain.loras):
                self.lost(node, "is applied to the text encoders alone.", "It is left out.")
            node = self.feeding(node, "clip")
        return {}

    def vae(self, decoder: Node, chain: Chain) -> dict[str, Any]:
        """Of `model:`, the VAE that an image is decoded with, and how."""
        section: dict[str, Any] = {"vae_tiling": True} if decoder.kind == "VAEDecodeTiled" else {}
        node = self.feeding(decoder, "vae")
        if node is None:
            return section
        if node.kind == "VAELoader":
            file = self.text(node, "vae_name")
            if PurePosixPath(file).suffix == "":  # taesd3, pixel_space: made by ComfyUI, not loaded
                self.lost(node, f"{printable(file)} is no VAE of SD3.", "The checkpoint's own is taken.")
            elif path := self._path(node, "vae", file):
                section["vae"] = path
        elif node.kind not in CHECKPOINTS:
            self.lost(node, "loads a VAE in a way that batchgen does not know.", "The checkpoint's own is taken.")
        elif chain.loader is not None and chain.loader.kind not in CHECKPOINTS:
            # all models of SD3 have the same VAE, but somewhere it must be
            self.lost(node, f"only its VAE is used, and {chain.loader} has none.", "Write its file as model.vae.")
        return section

    def _path(self, node: Node, kind: str, name: str) -> str | None:
        """Where a file of this kind lies. None where batchgen cannot use the name, which is noted."""
        path = relative(name)
        if path is None:
            self.wrong(node, f"{printable(name) or 'an empty name'!r} is no file name. Choose a file, export again.")
            return None
        if path.suffix.lower() not in (".safetensors", ".sft"):
            self.lost(
                node,
                f"{printable(name)} is no safetensors file, and batchgen opens no other.",
                "It is left out: convert it to safetensors and write its path.",
            )
            return None
        if self.folder is None:
            return f"models/{FOLDERS[kind][0]}/{path}"
        places = [self.folder / folder / path for folder in FOLDERS[kind]]
        existing = [place for place in places if place.is_file()]
        if not existing:
            self.lost(node, f"{places[0]} is not there.", "Put the file there, or correct the path.")
        return str((existing or places)[0])

    def _read_loader(self, node: Node, chain: Chain) -> None:
        chain.loader = node
        kind, name = "checkpoint", "ckpt_name"
        if node.kind == "UNETLoader":
            kind, name = "transformer", "unet_name"
            self._read_weight_dtype(node, chain)
        elif node.kind not in CHECKPOINTS:
            texts = [value for value in (*node.inputs.values(), *node.values) if isinstance(value, str)]
            chain.preset = preset_named(*texts) or chain.preset
            self.lost(
                node,
                "loads a model in a way that batchgen does not know.",
                f"preset: {chain.preset} is written, with the weights of the hub: write the path of a safetensors "
                "file.",
            )
            return
        file = self.text(node, name)
        preset = preset_named(file)
        if preset is None:
            self.lost(
                node,
                f"the name {printable(file)} does not say which model it is.",
                f"preset: {chain.preset} is written: correct it if it is another.",
            )
        chain.preset = preset or chain.preset
        chain.path = self._path(node, kind, file)

    def _read_weight_dtype(self, node: Node, chain: Chain) -> None:
        dtype = self.text(node, "weight_dtype", "default")
        chain.float8 = dtype.startswith("fp8")
        if dtype not in ("default", "fp8_e4m3fn"):
            written = "quantization: {transformer: float8}" if chain.float8 else "bfloat16"
            self.lost(node, f"weight_dtype {printable(dtype)} has no equal in batchgen.", f"{written} is written.")

    def _read_lora(self, node: Node, chain: Chain) -> None:
        file = self.text(node, "lora_name")
        scale = self.number(node, "strength_model", 1.0, -10.0, 10.0)
        if node.kind == "LoraLoader":
            clip = self.number(node, "strength_clip", 1.0, -10.0, 10.0)
            if clip != scale:
                self.lost(
                    node,
                    f"has strength {scale:g} for the model and {clip:g} for the text encoders; batchgen has one scale.",
                    f"{scale:g} is written.",
                )
        if scale == 0:
            return
        path = self._path(node, "lora", file)
        if path is not None:
            chain.loras.append(Lora(node, _alias(file, {lora.alias for lora in chain.loras}), path, scale))

    def _read_skip(self, node: Node, chain: Chain) -> None:
        layers = sorted({int(layer) for layer in re.findall(r"\d{1,4}", self.text(node, SKIPS[node.kind]))})
        scale = self.number(node, "scale", 3.0, 0.0, 50.0)
        start = self.number(node, "start_percent", 0.01, 0.0, 1.0)
        end = self.number(node, "end_percent", 0.15, 0.0, 1.0)
        if self.number(node, "rescaling_scale", 0.0, 0.0, 10.0):
            self.lost(node, "rescaling_scale has no equal in batchgen.", "It is left out.")
        if not layers or scale == 0:
            return
        if chain.skip is not None:
            self.lost(node, f"is added to that of {chain.skip.node}; batchgen has one.", "It is left out.")
            return
        chain.skip = Skip(node, layers, scale, start, end, self._shift_behind(node))

    def _shift_behind(self, node: Node) -> float:
        """The shift that a node sees: of the next ModelSamplingSD3 upstream, or the model's own."""
        while (onward := self.graph.source(node, "model")) is not None:
            node = onward
            if node.kind == "ModelSamplingSD3":
                return self._shift(node)
        return SHIFT

    def _shift(self, node: Node) -> float:
        return self.number(node, "shift", SHIFT, 0.01, 100.0)

    def _read_own(self, node: Node, chain: Chain) -> dict[str, Any]:
        """Encoders in a checkpoint: what its name says of them (sd3_medium_incl_clips.safetensors has no T5)."""
        if node.kind not in CHECKPOINTS:
            self.lost(
                node,
                "loads text encoders in a way that batchgen does not know.",
                "Those of the model are taken: write text_encoder, text_encoder_2 and text_encoder_3 for others.",
            )
            return {}
        name = self.text(node, "ckpt_name").lower()
        if node is not chain.loader:
            self.lost(node, "only its text encoders are used.", "Write their files as model.text_encoder, _2 and _3.")
        return {"text_encoder_3": None} if "incl_clips" in name and "t5" not in name else {}

    def _read_clips(self, node: Node) -> dict[str, Any]:
        files = [self.text(node, name) for name in CLIP_LOADERS[node.kind]]
        kind = self.text(node, "type", "sd3")
        if kind != "sd3":
            self.lost(node, f"its type is {printable(kind)}, batchgen renders SD3.", "It is read as sd3.")
        parts = self._assign(node, files)
        section: dict[str, Any] = {}
        for part in ENCODERS:
            if part in parts:
                if path := self._path(node, "text encoder", parts[part]):
                    section[part] = path
            elif part == "text_encoder_3":
                section[part] = None
            else:
                name = "CLIP-L" if part == "text_encoder" else "CLIP-G"
                what = f"leaves {name} out; batchgen can only leave T5 out."
                self.lost(node, what, f"{part} is the checkpoint's own.")
        return section

    def _assign(self, node: Node, files: list[str]) -> dict[str, str]:
        """Which file is which encoder. ComfyUI looks inside; here names tell, and what has none is what is missing."""
        parts: dict[str, str] = {}
        unknown: list[str] = []
        for file in files:
            part = encoder_named(file)
            if part is None or part in parts:
                unknown.append(file)
            else:
                parts[part] = file
        missing: Iterable[str] = [part for part in ENCODERS if part not in parts]
        for part, file in zip(missing, unknown, strict=False):
            parts[part] = file
            what = f"the name {printable(file)} does not say which encoder it is."
            self.lost(node, what, f"It is written as {part}: check it.")
        return parts


def _alias(file: str, taken: set[str]) -> str:
    """A name as model.adapters takes it."""
    stem = PurePosixPath(file.replace("\\", "/")).stem
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:60] or "lora"
    return next(name for name in (plain, *(f"{plain}-{number}" for number in range(2, 99))) if name not in taken)
