"""Detectors with random weights and a CLIP: the way from a picture to a verdict, for each kind of detector."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessorPil,
    OwlViTProcessor,
    SwinConfig,
)  # fmt: skip

from batchgen.demo import CLIP
from batchgen.demo.world import COLOURS
from batchgen.errors import Refused
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.scorers.boxes import Box
from batchgen.evaluate.wanted import Wanted
from batchgen.job.presets import DEMO_CHECKPOINT

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIGHT = SIZES | {"image_size": 64, "patch_size": 16}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "star", "circle"]


def owl(folder, config_class, model_class, processor):
    """An OWL-ViT, or its second version: they are asked alike."""
    tokenizer = CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer", model_max_length=16)
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id}
    config = config_class(text_config=SIZES | words, vision_config=SIGHT, projection_dim=32)
    model_class(config).save_pretrained(folder, safe_serialization=True)
    processor(tokenizer).save_pretrained(folder)


def owl1(folder):
    processor = OwlViTImageProcessorPil(size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64})
    owl(folder, OwlViTConfig, OwlViTForObjectDetection, lambda words: OwlViTProcessor(processor, words))


def owl2(folder):
    processor = Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    owl(folder, Owlv2Config, Owlv2ForObjectDetection, lambda words: Owlv2Processor(processor, words))


def grounding_dino(folder):
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, out_indices=[2, 3, 4]
    )
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    words = BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=32, **SIZES)
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=words, num_queries=5, d_model=32, max_text_len=32, **heads, **layers
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder, safe_serialization=True)
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(VOCABULARY)})
    side = {"shortest_edge": 64, "longest_edge": 96}
    GroundingDinoProcessor(GroundingDinoImageProcessorPil(size=side), tokenizer).save_pretrained(folder)


def loaded(kind, folder):
    torch.manual_seed(0)
    kind(folder)
    found = make_scorer(Wanted("detection", f"{folder},{CLIP}"))
    found.load("cpu")
    return found


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return loaded(owl2, tmp_path_factory.mktemp("models") / "tiny-owl")


@pytest.mark.parametrize("kind", [owl1, grounding_dino])
def test_other_kinds_of_detectors_are_asked_in_their_way(kind, tmp_path):
    scorer = loaded(kind, tmp_path / "tiny")
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    include = [{"class": "Star", "count": 1}, {"class": "circle", "count": 99}]
    row = {"prompt": "p", "benchmark_record": json.dumps({"tag": "two_object", "include": include})}
    (score,) = scorer.score([scorer.prepare(picture, row)], [row])
    assert score.detail["found"].keys() == {"Star", "circle"}
    assert sum(score.detail["found"].values()) > 0, "random weights are sure of something"
    assert score.detail["found"]["circle"] < 99
    assert any(line.endswith("of 99 circle") for line in score.detail["wrong"])


def test_a_detector_that_nobody_knows_to_ask_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "omdet-turbo"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(Refused, match=r"is a omdet-turbo, .* owlvit, owlv2, grounding-dino, mm-grounding-dino"):
        make_scorer(Wanted("detection", f"{tmp_path},{CLIP}"))


def test_every_picture_gets_a_verdict_with_its_reasons(scorer):
    assert scorer.about.scorer == "boxes-tiny-owl-clip-w128p8-64px"
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    include = [{"class": "star", "count": 1}, {"class": "circle", "count": 99}]
    row = {"prompt": "p", "benchmark_record": json.dumps({"tag": "two_object", "include": include})}
    (score,) = scorer.score([scorer.prepare(picture, row)], [row])
    assert score.score == 0.0
    assert set(score.detail["found"]) == {"star", "circle"}
    assert any(line.endswith("of 99 circle") for line in score.detail["wrong"])
    with pytest.raises(ValueError, match="no objects"):
        scorer.prepare(picture, {"prompt": "p", "benchmark_record": None})


@pytest.mark.parametrize("colour", ["green", "blue", "yellow", "black"])
def test_a_colour_is_read_from_the_box_alone(scorer, colour):
    """The demo's CLIP knows these colours, and has never read of brown; what stands outside the box has another one."""
    picture = np.full((96, 96, 3), 250, np.uint8)
    picture[:, :48] = COLOURS["purple"]
    picture[20:76, 56:90] = COLOURS[colour]
    assert scorer.colour_of(picture, Box(50, 10, 96, 86, 0.9), "square") == colour
