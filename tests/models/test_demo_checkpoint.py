"""The demo checkpoint is what presets.py says, small, readable by the tokenizers, and worth looking at."""

from __future__ import annotations

import json
from random import Random

from demo_model.denoiser import DETAILS

from batchgen.demo.oracle import look
from batchgen.demo.world import Scene, Thing, prompt_of
from batchgen.job.presets import DEMO_CHECKPOINT, PRESETS
from batchgen.plan.preflight import prepare
from batchgen.plan.preview import prepare_preview
from tests.test_preview import rendered

DEMO = PRESETS["demo"]


def config(part):
    return json.loads((DEMO_CHECKPOINT / part / "config.json").read_text())


def test_it_is_small_and_holds_safetensors_only():
    found = [file for file in DEMO_CHECKPOINT.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in found) <= 12_000_000
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
    assert config("transformer")["dual_attention_layers"] == [0, 1, 2]
    assert config("vae")["latent_channels"] == 16
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


def test_it_draws_what_the_prompt_says(renderer, make_row):
    """Held-out scenes; jobs/bench/demo_quality.py asks 400 and says how often shapes are right, too."""
    things = ("red", "heart"), ("blue", "square"), ("blue", "triangle"), ("pink", "triangle"), ("black", "circle")
    scenes = [Scene((Thing(*thing),), background="white") for thing in things]
    assert all(scene.held_out for scene in scenes)
    sizes = {"height": 96, "width": 96, "num_inference_steps": 28, "max_sequence_length": 64}
    rows = [make_row(i, prompt=prompt_of(scene, Random(i)), **sizes) for i, scene in enumerate(scenes)]
    pictures = renderer.decode(renderer.denoise(rows, renderer.encode(rows)), range(len(rows)))
    for scene, picture in zip(scenes, pictures, strict=True):
        ground, seen = look(picture)
        assert (ground, [one.colour for one in seen]) == ("white", [scene.things[0].colour])


def test_what_no_encoder_reads_is_not_drawn(renderer, make_row):
    """The background stands behind more words than CLIP's 77 tokens and T5's 64; with 256, T5 reads it."""

    def pictures(length):
        prompts = [f"a red heart, {', '.join(DETAILS * 2)}, on a {ground} background" for ground in ("blue", "green")]
        rows = [
            make_row(prompt=text, height=96, width=96, num_inference_steps=28, max_sequence_length=length, seed=1)
            for text in prompts
        ]
        return renderer.decode(renderer.denoise(rows, renderer.encode(rows)), [0, 1])

    one, other = pictures(64)
    assert (one == other).all()
    one, other = pictures(256)
    assert (one != other).any()


def test_a_preview_has_the_pixels_of_the_full_run(make_job, one_thread):
    """Batches of four that the preview leaves nearly empty, and a bucket that has two rows in all."""
    rows = [{"prompt": f"a {colour} circle", "height": 64, "width": 64} for colour in ("red", "blue", "green", "pink")]
    rows += [{"prompt": f"a {shape}", "height": 64, "width": 96} for shape in ("star", "heart")]
    job = make_job(rows, model={"preset": "demo"}, sampling={"num_inference_steps": 2})
    _, shown = rendered(prepare_preview(job, 2), 2)
    _, whole = rendered(prepare(job))
    assert (len(shown), len(whole)) == (2, 6)
    assert shown.items() <= whole.items()
