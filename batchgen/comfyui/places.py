"""File names of a workflow → paths in ComfyUI's folder of models, and what a name tells of the file.

Opens nothing; with --models it looks whether a file is there. Knows names only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from batchgen.comfyui.findings import Findings
from batchgen.comfyui.graph import Node, printable

# folder_paths.py of ComfyUI: what each kind of file lies in, the newer name first.
FOLDERS = {
    "checkpoint": ("checkpoints",),
    "transformer": ("diffusion_models", "unet"),
    "text encoder": ("text_encoders", "clip"),
    "vae": ("vae",),
    "lora": ("loras",),
}
SD35 = r"(?:sd|stable[-_ ]?diffusion[-_ ]?)[-_ ]?3[._]?5"
PRESET_NAMES = (  # first match wins; names of Stability's files and what people make of them
    ("sd3.5-large-turbo", re.compile(rf"{SD35}[-_ ]?l(arge)?[-_ ]?turbo")),
    ("sd3.5-large", re.compile(rf"{SD35}[-_ ]?l(arge|(?![a-z]))")),
    ("sd3.5-medium", re.compile(rf"{SD35}[-_ ]?m(edium|(?![a-z]))")),
    ("sd3-medium", re.compile(r"(?:sd|stable[-_ ]?diffusion[-_ ]?)[-_ ]?3[-_ ]?m(edium|(?![a-z]))")),
)
ENCODER_NAMES = (  # part of StableDiffusion3Pipeline: how its files are called
    ("text_encoder_3", re.compile(r"t5|umt5")),
    ("text_encoder_2", re.compile(r"clip[-_ ]?(?:vit[-_ ]?)?g(?![a-z])|bigg|text_encoder_2")),
    ("text_encoder", re.compile(r"clip[-_ ]?(?:vit[-_ ]?)?l(?![a-z])|vit[-_ ]?l|text_encoder(?!_)")),
)


@dataclass(frozen=True, slots=True)
class Models:
    """ComfyUI's folder of models: as the user gave it, or just its name, to be completed by hand."""

    folder: Path | None = None

    def path(self, findings: Findings, node: Node, kind: str, name: str) -> str | None:
        """Where a file of this kind lies. None where the name cannot be used, which is then said."""
        plain = PurePosixPath(name.replace("\\", "/"))
        if not name.strip() or plain.is_absolute() or ".." in plain.parts or ":" in name:
            findings.wrong(
                node, f"{printable(name) or 'an empty name'!r} is no file name. Choose a file, export again."
            )
            return None
        if plain.suffix.lower() not in (".safetensors", ".sft"):
            findings.lost(
                node,
                f"{printable(name)} is no safetensors file, and batchgen opens no other.",
                "It is left out: convert it to safetensors and write its path.",
            )
            return None
        if self.folder is None:
            return f"models/{FOLDERS[kind][0]}/{plain}"
        places = [self.folder / folder / plain for folder in FOLDERS[kind]]
        there = [place for place in places if place.is_file()]
        if not there:
            findings.lost(node, f"{places[0]} is not there.", "Put the file there, or correct the path.")
        return str((there or places)[0])


def preset_named(*names: str) -> str | None:
    """The preset that the first telling name stands for."""
    for name in names:
        low = name.lower()
        for preset, pattern in PRESET_NAMES:
            if pattern.search(low):
                return preset
    return None


def encoder_named(name: str) -> str | None:
    """text_encoder, text_encoder_2 or text_encoder_3, by the file's name."""
    low = PurePosixPath(name.replace("\\", "/")).name.lower()
    return next((part for part, pattern in ENCODER_NAMES if pattern.search(low)), None)
