"""jobs/train_demo.py: what was stopped and resumed is what was not, and what it exports is a pipeline."""

from __future__ import annotations

import json

import pytest
import torch
from demo_model import autoencoder, denoiser, loop, muon
from demo_model.vocabulary import tokenizers
from PIL import Image
from torch import nn

from batchgen.demo.world import Scene, Thing
from batchgen.job.presets import DEMO_CHECKPOINT


class Stopped(Exception):
    pass


def one(folder, stop_at=None, steps=8):
    """Train a tiny module; its target is drawn from the step's own randomness."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)

    def step(number, random, generator):
        if number == stop_at:
            raise Stopped
        return (model(torch.randn(16, 4, generator=generator)) - random.random()).square().mean()

    folder.mkdir(exist_ok=True)
    loop.train("tiny", model, step, steps, 0.1, folder)
    return model.weight.detach().clone()


def test_training_resumes_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    whole = one(tmp_path / "whole")
    with pytest.raises(Stopped):
        one(tmp_path / "halves", stop_at=5)
    assert torch.equal(one(tmp_path / "halves"), whole)
    assert not torch.equal(one(tmp_path / "shorter", steps=7), whole)


def test_muon_is_torch_s():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((16, 8), (8, 16), (16, 8), (8, 8))]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    one = muon.Muon(ours, lr=1e-2)
    other = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            its.grad = mine.grad.clone()
        one.step()
        other.step()
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its)


def test_the_loss_is_plotted(tmp_path):
    one(tmp_path / "run", steps=30)
    with Image.open(tmp_path / "run/tiny.png") as plot:
        assert plot.size == (800, 400)
        assert (0, 0, 128) in {colour for _, colour in plot.convert("RGB").getcolors(100_000)}


def test_vocabularies_are_the_checkpoint_s(pipe):
    for ours, theirs in zip(tokenizers(), (pipe.tokenizer, pipe.tokenizer_2, pipe.tokenizer_3), strict=True):
        assert ours.get_vocab() == theirs.get_vocab()


def test_a_long_prompt_keeps_its_background_for_the_end():
    scene = Scene((Thing("red", "heart"),), background="blue")
    random = loop.Random(0)
    for _ in range(50):
        prompt = denoiser.prompt_for(scene, random, long=True)
        assert prompt.endswith("blue background")
        assert any(detail in prompt for detail in denoiser.DETAILS)


def test_embeddings_are_those_of_the_pipeline(pipe):
    """What the transformer is trained on is what diffusers will hand it."""
    model = denoiser.Denoiser((pipe.tokenizer, pipe.tokenizer_2, pipe.tokenizer_3))
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        getattr(model, name).load_state_dict(getattr(pipe, name).state_dict())
    prompts = ["a red circle", "a blue star above a green heart, " * 12]
    with torch.no_grad():
        text, pooled = model.embed(model.tokenize(prompts, 77, 64))
    theirs, _, theirs_pooled, _ = pipe.encode_prompt(
        prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=64
    )
    torch.testing.assert_close(text, theirs)
    torch.testing.assert_close(pooled, theirs_pooled)


def test_it_writes_a_checkpoint_from_nothing(tmp_path, monkeypatch):
    """Two steps of each half: the same path as hours of training."""
    import train_demo
    from diffusers import StableDiffusion3Pipeline

    monkeypatch.setattr(autoencoder, "PIXELS", 2 * 160 * 160)
    monkeypatch.setattr(denoiser, "BATCH", 2)
    train_demo.main(tmp_path / "out", tmp_path / "work", autoencoder_steps=2, denoiser_steps=2, batches=1)
    config = json.loads((tmp_path / "out/vae/config.json").read_text())
    assert config["scaling_factor"] != 0.18215, "not measured"
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        ours, shipped = (folder / name / "tokenizer.json" for folder in (tmp_path / "out", DEMO_CHECKPOINT))
        assert ours.read_bytes() == shipped.read_bytes()
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) < 12_000_000
    pipe = StableDiffusion3Pipeline.from_pretrained(tmp_path / "out", dtype=torch.float32, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red circle", height=64, width=96, num_inference_steps=1, output_type="np").images[0]
    assert picture.shape == (64, 96, 3)

    more = {"denoiser_steps": 1, "batches": 1, "start": tmp_path / "out"}
    train_demo.main(tmp_path / "further", tmp_path / "work 2", **more)
    further = StableDiffusion3Pipeline.from_pretrained(tmp_path / "further", dtype=torch.float32, use_safetensors=True)
    for name, same in (("vae", True), ("transformer", False)):
        before, after = (getattr(each, name).state_dict() for each in (pipe, further))
        assert all(torch.equal(before[key], after[key]) for key in before) == same
