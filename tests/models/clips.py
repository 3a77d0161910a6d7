"""A CLIP of transformers' own class with random weights, as a directory, and its numbers written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from batchgen.job.presets import DEMO_CHECKPOINT

SIDE = 32
RATIOS = [(64, 64), (48, 96), (200, 75), (31, 33), (40, 160)]  # height, width


def tiny_clip(directory: Path, **vision: Any) -> Path:
    """Weights large enough that pictures and texts differ in the first digit."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer")
    words = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 20}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=sizes | words, vision_config=sizes | {"image_size": SIDE, "patch_size": 8} | vision,
        projection_dim=16,
    )  # fmt: skip
    model = CLIPModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3) if weight.ndim else weight.fill_(3.5)
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.save_pretrained(directory)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(directory)
    return directory


def cropped(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """CLIP's preprocessing: shortest edge `side`, bicubic; the middle square; OpenAI's mean and spread."""
    picture = Image.fromarray(pixels)
    width, height = picture.size
    shortest = min(width, height)
    picture = picture.resize((int(side * width / shortest), int(side * height / shortest)), Image.Resampling.BICUBIC)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return normalized(np.asarray(picture.crop((left, top, left + side, top + side))))


def padded(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """HPSv2's: longest edge `side`, black above and below or left and right."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    new = round(height * scale), round(width * scale)
    small = np.asarray(Image.fromarray(pixels).resize(new[::-1], Image.Resampling.BICUBIC))
    above, left = (side - new[0]) // 2, (side - new[1]) // 2
    around = ((above, side - new[0] - above), (left, side - new[1] - left), (0, 0))
    return normalized(np.pad(small, around))


def normalized(pixels: np.ndarray) -> np.ndarray:
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    return ((pixels / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)


def cosine(directory: Path, pixels: np.ndarray, prompt: str) -> float:
    """Of one picture, which is preprocessed already, and one prompt: CLIP's towers, projections and a dot product."""
    model = CLIPModel.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(directory)
    ids = tokenizer(prompt)["input_ids"]
    longest = model.config.text_config.max_position_embeddings
    if len(ids) > longest:
        ids = [*ids[: longest - 1], tokenizer.eos_token_id]
    with torch.no_grad():
        seen = model.vision_model(torch.from_numpy(pixels)[None])
        read = model.text_model(torch.tensor([ids]))
        picture = model.visual_projection(model.vision_model.post_layernorm(seen.last_hidden_state[:, 0]))[0].numpy()
        text = model.text_projection(read.last_hidden_state[:, ids.index(tokenizer.eos_token_id)])[0].numpy()
    return float(picture @ text / np.linalg.norm(picture) / np.linalg.norm(text))
