"""What others call the columns and settings that mean something here: DiffusionDB, JourneyDB, Civitai, A1111, ComfyUI.

Knows names only, ours and others'.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from batchgen.columns import MANIFEST
from batchgen.words import closest

SYNONYMS = (
    "caption", "text", "prompt_text", "description", "captions", "prompts", "text_prompt", "long_caption",
    "positive_prompt", "positive",
)  # fmt: skip
OTHER_NAMES = {  # ours: others', as plain_name() writes them
    "prompt": SYNONYMS,
    "negative_prompt": ("negative", "neg_prompt", "negativeprompt"),
    "guidance_scale": ("cfg", "cfg_scale", "cfgscale", "guidance"),
    "num_inference_steps": ("steps", "step", "num_steps", "sampling_steps"),
    "num_images_per_prompt": ("num_images", "n_samples", "num_samples", "samples"),
    "aspect_ratio": ("ar", "aspect", "ratio", "aspectratio"),
    "seed": ("noise_seed", "random_seed"),
}
SIZES = ("size", "resolution", "dimensions", "image_size")  # two numbers in one text
NO_SETTINGS = ("lora", "lora_scale", "scheduler", "sampler")  # set by other tools, row by row
UNLIKELY = re.compile(r"[,;|\t]")  # a whole header, taken for one name


def plain_name(name: str) -> str:
    """'CFG Scale' → cfg_scale."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def meant(name: str) -> str:
    """The column of ours that a table may mean by a name of its own, or nothing."""
    word = plain_name(name)
    found = [ours for ours in MANIFEST if word == ours or word in OTHER_NAMES.get(ours, ())]
    return found[0] if found else closest(name.lower(), MANIFEST, cutoff=0.85)


def likely_prompt(names: Sequence[str]) -> str:
    """The column that is most likely the prompt, or nothing."""
    names = [name for name in names if not UNLIKELY.search(name)]
    by_word = {plain_name(name): name for name in reversed(names)}
    for word in ("prompt", *SYNONYMS):
        if word in by_word:
            return by_word[word]
    return by_word.get(closest("prompt", by_word), "")


def guess(names: Collection[str]) -> dict[str, str]:
    """Which columns of a table are ours under other names: theirs → ours. An id is left alone: it must be unique."""
    columns: dict[str, str] = {}
    for ours in MANIFEST:
        words = (ours, *OTHER_NAMES.get(ours, ()))
        found = sorted((words.index(plain_name(name)), name) for name in names if plain_name(name) in words)
        if ours not in names and ours != "id" and found:
            columns[found[0][1]] = ours
    return columns
