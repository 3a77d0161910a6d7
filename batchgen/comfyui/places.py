"""Names of model files in a workflow: where such a file lies in ComfyUI's folder of models, and what its name tells.

Knows names only, opens no file.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

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


def relative(name: str) -> PurePosixPath | None:
    """The path of a file below its folder. None where the name is empty, or would lead out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    leads_out = path.is_absolute() or ".." in path.parts or ":" in name
    return None if leads_out or not name.strip() else path


def preset_named(*names: str) -> str | None:
    """The preset that the first telling name stands for."""
    for name in names:
        for preset, pattern in PRESET_NAMES:
            if pattern.search(name.lower()):
                return preset
    return None


def encoder_named(name: str) -> str | None:
    """text_encoder, text_encoder_2 or text_encoder_3, by the file's name."""
    file = PurePosixPath(name.replace("\\", "/")).name.lower()
    return next((part for part, pattern in ENCODER_NAMES if pattern.search(file)), None)
