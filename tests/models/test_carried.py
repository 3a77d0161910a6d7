"""The configs that batchgen carries: they are the real architectures, and the words are CLIP's."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_vae_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel

from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT, PRESETS
from batchgen.weights.carried import CONFIGS, FAMILY, TRANSFORMERS, assemble, find, settle
from batchgen.weights.tensor_names import as_diffusers, expected

# Parameters of the published weights.
ENCODERS = {
    "text_encoder": (CLIPTextModelWithProjection, 123_650_304),
    "text_encoder_2": (CLIPTextModelWithProjection, 694_659_840),
    "text_encoder_3": (T5EncoderModel, 4_762_310_656),
}
VAE = 83_819_683
NO_T5 = frozenset({"text_encoder_3", "tokenizer_3"})
CARRIED = ("scheduler", "tokenizer", "tokenizer_2", "transformer", "vae", "text_encoder", "text_encoder_2")
REAL = sorted(TRANSFORMERS)


def config_of(preset, part):
    return find(Model(preset=preset), None, [part], frozenset()).config(part)


def build(kind, config):
    with torch.device("meta"):
        return kind.from_config(config)


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def on_meta(wanted):
    return {name: torch.empty(shape, device="meta") for name, shape in wanted.items()}


@pytest.mark.parametrize("preset", REAL)
def test_the_transformer_of_a_preset(preset):
    """Its parameters are the published number, and the original layout converts to all of its tensors and no more."""
    config, known = config_of(preset, "transformer"), PRESETS[preset]
    model = build(SD3Transformer2DModel, config)
    parameters = sum(weight.numel() for weight in model.parameters())
    width = config["num_attention_heads"] * config["attention_head_dim"]
    assert known.transformer == (config["num_layers"], len(config["dual_attention_layers"]), width, parameters)
    assert known.max_side == config["pos_embed_max_size"] * 16
    assert all(layer < config["num_layers"] for layer in known.skip_guidance_layers)
    converted = convert_sd3_transformer_checkpoint_to_diffusers(on_meta(expected("transformer", config)))
    assert {name: tuple(value.shape) for name, value in converted.items()} == shapes(model)


def test_turbo_pays_for_no_second_half():
    assert PRESETS["sd3.5-large-turbo"].guidance_scale <= 1


@pytest.mark.parametrize("preset", ["sd3.5-medium", "demo"])
def test_the_vae(preset):
    config = config_of(preset, "vae")
    model = build(AutoencoderKL, config)
    assert preset == "demo" or sum(weight.numel() for weight in model.parameters()) == VAE
    wanted = expected("vae", config)
    converted = convert_ldm_vae_checkpoint(on_meta(wanted), config)
    assert {name: tuple(value.shape) for name, value in converted.items()} == shapes(model)
    assert as_diffusers(wanted, len(config["block_out_channels"])) == shapes(model)


@pytest.mark.parametrize("part", ENCODERS)
@pytest.mark.parametrize("preset", ["sd3.5-medium", "demo"])
def test_the_text_encoders(preset, part):
    kind, published = ENCODERS[part]
    config = config_of(preset, part)
    with torch.device("meta"):  # init_empty_weights would count T5's one table twice
        model = kind(kind.config_class.from_dict(config))
    assert preset == "demo" or sum(weight.numel() for weight in model.parameters()) == published
    found = shapes(model)
    found.pop("encoder.embed_tokens.weight", None)  # shared.weight by another name
    assert expected(part, config) == found


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return assemble(find(Model(), None, CARRIED, NO_T5))


@pytest.mark.parametrize(("part", "pad"), [("tokenizer", 49407), ("tokenizer_2", 0)])
def test_clips_words(assembled, part, pad):
    tokenizer = CLIPTokenizer.from_pretrained(assembled / part, local_files_only=True)
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (pad, 77)
    padded = tokenizer("A  Photo of a CAT", padding="max_length").input_ids
    assert padded == [49406, 320, 1125, 539, 320, 2368, 49407] + [pad] * 70


def test_two_that_assemble_at_once(assembled, tmp_path):
    """The second finds the first one's directory, which stays as it is."""
    (tmp_path / "mine").mkdir()
    before = sorted(assembled.rglob("*"))
    settle(tmp_path / "mine", assembled)
    assert sorted(assembled.rglob("*")) == before
    assert not (tmp_path / "mine").exists()


def test_what_is_dropped_is_none_in_the_index(assembled):
    index = json.loads((assembled / "model_index.json").read_text())
    assert index["text_encoder_3"] == index["tokenizer_3"] == [None, None]
    assert index["transformer"] == ["diffusers", "SD3Transformer2DModel"]


def test_what_is_carried_is_small():
    files = [file for file in CONFIGS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    assert not any(file.suffix == ".safetensors" for file in files)


def test_the_users_config_goes_before_the_carried_ones(tmp_path):
    (tmp_path / "tokenizer_3").mkdir()
    (tmp_path / "tokenizer_3/tokenizer.json").write_bytes((DEMO_CHECKPOINT / "tokenizer_3/tokenizer.json").read_bytes())
    found = find(Model(config=str(tmp_path)), None, ["tokenizer_3", "vae"], frozenset())
    assert found.parts == {"tokenizer_3": tmp_path / "tokenizer_3", "vae": FAMILY / "vae"}
