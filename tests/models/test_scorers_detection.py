"""A detector with random weights and a CLIP: the way from a picture to a verdict."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

from batchgen.demo import CLIP
from batchgen.demo.world import COLOURS
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.scorers.boxes import Box
from batchgen.evaluate.wanted import Wanted
from batchgen.job.presets import DEMO_CHECKPOINT


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(DEMO_CHECKPOINT / "tokenizer", model_max_length=16)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id}
    sight = {"image_size": 64, "patch_size": 16}
    config = Owlv2Config(text_config=sizes | words, vision_config=sizes | sight, projection_dim=32)
    folder = tmp_path_factory.mktemp("models") / "tiny-owl"
    Owlv2ForObjectDetection(config).save_pretrained(folder, safe_serialization=True)
    Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    found = make_scorer(Wanted("detection", f"{folder},{CLIP}"))
    found.load("cpu")
    return found


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
