"""The demo's CLIP: transformers' own class in small, learning to tell drawings apart that differ in one thing only.

A batch is made of families: a scene and others that differ from it in one colour, shape, number, place or background.
So a model that only counts colours does not get far. Knows the demo's world and CLIP's loss; not how a loop trains.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from batchgen.demo.world import COLOURS, RELATIONS, SHAPES, Scene, Thing, draw, prompt_of, random_scene

SIDE, PATCH = 64, 8
DRAWN = (64, 80, 96, 112)  # larger ones take longer to draw, and look the same on 64 × 64
FAMILIES, MEMBERS = 56, 4  # scenes of a batch, and how many differ from each of them in one thing, itself included
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
LARGEST_SCALE = 100.0  # of the logits, as in CLIP (arXiv 2103.00020, 2.5)


def small_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 77, "projection_dim": 96,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "image_size": SIDE, "patch_size": PATCH, "hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 4, "num_attention_heads": 4, "projection_dim": 96,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=96))


def processor() -> CLIPImageProcessorPil:
    """The whole picture, squeezed into a square: what stands at its edges counts, so nothing may be cropped."""
    return CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)


def same(scene: Scene) -> Scene:
    """One scene of those that say the same: A left of B is B right of A."""
    if scene.relation in ("right of", "below"):
        return replace(scene, things=scene.things[::-1], relation=OPPOSITE[scene.relation])
    return scene


def other(scene: Scene, random: Random) -> Scene:
    """A scene that differs from this one in one thing, and is no nonsense."""
    while True:
        things, changed = list(scene.things), scene
        at = random.randrange(len(things))
        what = random.choice(("colour", "shape", "order", "background", "order"))
        if what == "colour":
            things[at] = Thing(random.choice([*COLOURS]), things[at].shape)
        elif what == "shape":
            things[at] = Thing(things[at].colour, random.choice(SHAPES))
        if what in ("colour", "shape"):
            changed = replace(scene, things=tuple(things))
        elif what == "background":
            changed = replace(scene, background=random.choice([None, *COLOURS]))
        elif scene.relation:
            changed = _rearranged(scene, random)
        else:
            changed = replace(scene, count=random.choice((1, 2, 3)))
        used = {thing.colour for thing in changed.things}
        is_sense = changed.ground not in used and len(set(changed.things)) == len(changed.things)
        if is_sense and same(changed) != same(scene) and not changed.held_out:
            return changed


def _rearranged(scene: Scene, random: Random) -> Scene:
    """Two things elsewhere, or that have swapped their colours."""
    first, second = scene.things
    if first.shape != second.shape and random.random() < 0.5:
        return replace(scene, things=(Thing(second.colour, first.shape), Thing(first.colour, second.shape)))
    return replace(scene, relation=random.choice([*RELATIONS]))


def families(random: Random) -> list[Scene]:
    scenes: list[Scene] = []
    while len(scenes) < FAMILIES * MEMBERS:
        scene = random_scene(random)
        if not scene.held_out:
            scenes += [scene, *(other(scene, random) for _ in range(MEMBERS - 1))]
    return scenes


def drawing(scene: Scene, random: Random) -> Image.Image:
    """As a renderer may draw it: other tones, soft edges, some noise."""
    height = random.choice(DRAWN)
    pixels = draw(scene, height, random.choice(DRAWN), random).astype(np.float32)
    noise = np.random.default_rng(random.getrandbits(32))
    pixels = pixels * random.uniform(0.92, 1.05) + noise.normal(0, random.uniform(0, 8), pixels.shape)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))


class Contrast(nn.Module):
    """CLIP with its loss on scenes drawn as it goes."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.clip, self.tokenizer, self.processor = small_clip(tokenizer), tokenizer, processor()

    def forward(self, scenes: list[Scene], random: Random) -> Tensor:
        prompts = self.tokenizer([prompt_of(scene, random) for scene in scenes], padding=True, return_tensors="pt")
        pictures = self.processor([drawing(scene, random) for scene in scenes], return_tensors="pt")["pixel_values"]
        device = self.clip.logit_scale.device
        images = self.clip.get_image_features(pixel_values=pictures.to(device)).pooler_output
        texts = self.clip.get_text_features(**prompts.to(device)).pooler_output
        cosines = nn.functional.normalize(images.float()) @ nn.functional.normalize(texts.float()).T
        logits = self.clip.logit_scale.exp().clamp(max=LARGEST_SCALE) * cosines
        names = [same(scene) for scene in scenes]
        twins = torch.tensor([[a == b and i != j for j, b in enumerate(names)] for i, a in enumerate(names)])
        logits = logits.masked_fill(twins.to(device), -torch.inf)  # another drawing of the same scene is no mistake
        right = torch.arange(len(scenes), device=device)
        return (nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)) / 2
