"""Scores of pictures alone: LAION's aesthetic head and a classifier, against their formulas written out by hand."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import CLIPModel, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from batchgen.errors import Refused
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.wanted import Wanted
from tests.models.clips import cropped, tiny_clip


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in [(64, 64), (40, 96)]]


def scored(kind, directory, pictures):
    scorer = make_scorer(Wanted(kind, str(directory)))
    scorer.load("cpu")
    rows = [{"prompt": "p"}] * len(pictures)
    return scorer, [one.score for one in scorer.score([scorer.prepare(one, rows[0]) for one in pictures], rows)]


def test_the_aesthetic_head_is_linear_layers_on_a_normalized_picture(tmp_path, pictures):
    clip, random = tiny_clip(tmp_path / "clip"), np.random.default_rng(1)
    widths, tensors = [16, 32, 8, 1], {}
    for number, (inside, outside) in zip((0, 2, 10), pairwise(widths), strict=True):
        tensors[f"layers.{number}.weight"] = random.normal(size=(outside, inside)).astype(np.float32)
        tensors[f"layers.{number}.bias"] = random.normal(size=outside).astype(np.float32)
    head = tmp_path / "ava1-linearMSE"
    head.mkdir()
    save_file(tensors, head / "model.safetensors")
    (head / "config.json").write_text(json.dumps({"clip": str(clip)}))
    scorer, found = scored("aesthetic", head, pictures)
    assert scorer.about.scorer == "aesthetic-ava1-linearmse"
    model = CLIPModel.from_pretrained(clip, dtype=torch.float32).eval()
    for picture, score in zip(pictures, found, strict=True):
        with torch.no_grad():
            seen = model.vision_model(torch.from_numpy(cropped(picture))[None]).pooler_output
            value = model.visual_projection(seen)[0].numpy()
        value = value / np.linalg.norm(value)
        for number in (0, 2, 10):
            value = tensors[f"layers.{number}.weight"] @ value + tensors[f"layers.{number}.bias"]
        assert score == pytest.approx(value.item(), rel=1e-3)
    with pytest.raises(Refused, match="Convert"):
        make_scorer(Wanted("aesthetic"))


def test_nsfw_is_the_share_of_its_label(tmp_path, pictures):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = ViTConfig(**sizes, image_size=32, patch_size=8, id2label={0: "normal", 1: "nsfw"})
    model = ViTForImageClassification(config).eval()
    folder = tmp_path / "nsfw_tiny"
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    scorer, found = scored("nsfw", folder, pictures)
    assert (scorer.about.scorer, scorer.about.higher_is_better) == ("nsfw-tiny", False)
    for picture, score in zip(pictures, found, strict=True):
        ready = ViTImageProcessorPil(size={"height": 32, "width": 32})(picture, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            logits = model(pixel_values=ready).logits[0].numpy()
        assert score == pytest.approx(np.exp(logits[1]) / np.exp(logits).sum(), rel=1e-4)
    config.id2label = {0: "cat", 1: "dog"}
    ViTForImageClassification(config).save_pretrained(folder)
    with pytest.raises(Refused, match="no label 'nsfw'"):
        make_scorer(Wanted("nsfw", str(folder)))
