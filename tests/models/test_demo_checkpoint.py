"""The demo checkpoint is what presets.py says, small, readable by the tokenizers, and worth looking at."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from batchgen.models.presets import DEMO_CHECKPOINT, PRESETS

ROOT = Path(__file__).parents[2]
DEMO = PRESETS["demo"]


def config(part):
    return json.loads((DEMO_CHECKPOINT / part / "config.json").read_text())


def test_it_is_small_and_holds_safetensors_only():
    found = [file for file in DEMO_CHECKPOINT.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in found) < 3_500_000
    assert {file.suffix for file in found} == {".json", ".safetensors"}


def test_the_preset_states_its_sizes(renderer):
    transformer = config("transformer")
    width = transformer["attention_head_dim"] * transformer["num_attention_heads"]
    parameters = sum(weight.numel() for weight in renderer.transformer.parameters())
    dual = len(transformer["dual_attention_layers"])
    assert DEMO.transformer == (transformer["num_layers"], dual, width, parameters)
    assert DEMO.max_side == transformer["pos_embed_max_size"] * transformer["patch_size"] * 8
    assert all(layer < transformer["num_layers"] for layer in DEMO.skip_guidance_layers)


def test_it_is_stable_diffusion_3_5_in_small():
    assert config("transformer")["qk_norm"] == "rms_norm"
    assert (config("vae")["scaling_factor"], config("vae")["shift_factor"]) == (1.5305, 0.0609)
    assert config("text_encoder_2")["hidden_size"] > config("text_encoder")["hidden_size"]
    assert config("text_encoder_3")["feed_forward_proj"] == "gated-gelu"
    scheduler = json.loads((DEMO_CHECKPOINT / "scheduler/scheduler_config.json").read_text())
    assert scheduler["shift"] == 3.0


def test_its_tokenizers_read_what_people_write(pipe):
    ascii_text = " ".join(chr(code) for code in range(33, 127))
    for tokenizer, pad in ((pipe.tokenizer, "<|endoftext|>"), (pipe.tokenizer_2, "!")):
        assert tokenizer.model_max_length == 77
        assert tokenizer.pad_token == pad
        for text in (ascii_text, "Ünïcode 犬 🐕\u200d🦺 \x00"):
            ids = tokenizer(text, padding=False, truncation=False).input_ids
            assert tokenizer.unk_token_id not in ids[1:-1]
    assert pipe.tokenizer_2.pad_token_id == 0
    ids = pipe.tokenizer_3(ascii_text).input_ids
    assert pipe.tokenizer_3.unk_token_id not in ids
    assert ids[-1] == pipe.tokenizer_3.eos_token_id == 1
    assert pipe.tokenizer_3.model_max_length == 512


def test_prompts_of_ordinary_words_stay_short(pipe):
    text = "a small red cube to the left of three shiny green bottles"
    assert len(pipe.tokenizer_3(text).input_ids) <= 16
    assert len(pipe.tokenizer(text).input_ids) <= 20


@pytest.mark.parametrize("side", [96, 512])
def test_its_pictures_have_shapes_and_colours(renderer, make_row, side):
    steps = 8 if side == 96 else 2
    prompts = ["a red circle on a blue square", "three green cats sitting on a bench"]
    rows = [
        make_row(i, prompt=text, height=side, width=side, num_inference_steps=steps, seed=1)
        for i, text in enumerate(prompts)
    ]
    first, second = renderer.decode(renderer.denoise(rows, renderer.encode(rows)), [0, 1])
    for picture in (first, second):
        assert picture.std(axis=(0, 1)).max() > 15, "flat"
        assert np.abs(picture.astype(int) - picture.mean(axis=2, keepdims=True)).mean() > 8, "grey"
    assert np.abs(first.astype(int) - second).mean() > 10, "the prompt changes nothing"


def test_the_script_still_builds_it(pipe):
    """Vocabularies to the letter; weights to fp16's precision, for linear algebra differs between processors."""
    script = importlib.util.spec_from_file_location("build_demo", ROOT / "jobs/build_demo.py")
    build_demo = importlib.util.module_from_spec(script)
    script.loader.exec_module(build_demo)
    built = build_demo.build()
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        assert getattr(built, name).get_vocab() == getattr(pipe, name).get_vocab()
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        ours, theirs = getattr(built, name).state_dict(), getattr(pipe, name).state_dict()
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key].half().float(), theirs[key].float(), atol=1e-3, rtol=2e-3)
