"""A CLIP of transformers on one device: pictures and texts in, cosines out. Texts that come again are kept.

Knows the model and its preprocessing, and not which formula is made of a cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from batchgen.engines.device import on_device
from batchgen.evaluate.scorers.loading import device_named, load_model
from batchgen.evaluate.scorers.models import PREPROCESSOR, ModelFiles
from batchgen.run.images import Pixels
from batchgen.weights.digests import read_json

SIZES = {768: "b", 1024: "l", 1280: "h", 1408: "g", 1664: "bigg"}  # width of the picture's tower → as people say it
MOST_TEXTS = 10_000  # kept; a benchmark has fewer, and each takes some kilobytes

Input = npt.NDArray[np.float32]


def architecture(config: dict[str, Any]) -> str:
    """'l14' for ViT-L/14; 'w128p8-64px' for one that has no such name."""
    vision = {"hidden_size": 768, "patch_size": 32, "image_size": 224} | config.get("vision_config", {})  # CLIPConfig's
    width, patch, side = (vision[key] for key in ("hidden_size", "patch_size", "image_size"))
    name = f"{SIZES[width]}{patch}" if width in SIZES else f"w{width}p{patch}"
    return name if side == 224 else f"{name}-{side}px"


class ClipModel:
    """Loaded, on its device."""

    def __init__(self, files: ModelFiles, device: str | None) -> None:
        self.device = device_named(device)
        # In fp32: a CLIP costs little beside what rendered the picture, and half precision moves the third digit.
        self.model = load_model(CLIPModel, files.directory, self.device)
        self.tokenizer = AutoTokenizer.from_pretrained(files.directory)
        self.longest = self.model.config.text_config.max_position_embeddings
        self._texts: dict[str, tuple[Tensor, int]] = {}

    @on_device
    def pictures(self, inputs: Sequence[Input]) -> Tensor:
        """(pictures, dimensions), each of length 1."""
        pixels = torch.from_numpy(np.stack(inputs)).to(self.device)
        return torch.nn.functional.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output)

    @on_device
    def texts(self, texts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """(texts, dimensions), each of length 1; and how many tokens each text has, all of them or too many."""
        if len(self._texts) > MOST_TEXTS:
            self._texts.clear()
        if new := [text for text in dict.fromkeys(texts) if text not in self._texts]:
            tokens = [len(ids) for ids in self.tokenizer(new, verbose=False)["input_ids"]]
            read = self.tokenizer(
                new, padding="max_length", max_length=self.longest, truncation=True, return_tensors="pt"
            ).to(self.device)
            found = torch.nn.functional.normalize(self.model.get_text_features(**read).pooler_output)
            self._texts |= {text: (found[i], tokens[i]) for i, text in enumerate(new)}
        kept = [self._texts[text] for text in texts]
        return torch.stack([feature for feature, _ in kept]), [count for _, count in kept]

    @property
    @on_device
    def scale(self) -> float:
        """By which the model itself multiplies cosines."""
        return float(self.model.logit_scale.exp())


def own_preprocessing(files: ModelFiles) -> Callable[[Pixels], Input]:
    """What the model's own preprocessor_config.json says; CLIP's usual one where it says nothing."""
    said = read_json(files.directory / PREPROCESSOR)
    processor = CLIPImageProcessorPil(**(said if isinstance(said, dict) else {}))

    def prepare(pixels: Pixels) -> Input:
        found: Input = processor(pixels, return_tensors="np")["pixel_values"][0]
        return found

    return prepare
