"""Each preset of real weights is the architecture that it says: built on the meta device, which holds no numbers."""

import pytest
import torch
from diffusers import SD3Transformer2DModel

from batchgen.models.presets import PRESETS

# The parts of each checkpoint's transformer/config.json that differ.
LARGE = {"num_layers": 38, "num_attention_heads": 38, "pos_embed_max_size": 192, "qk_norm": "rms_norm"}
CONFIGS = {
    "sd3.5-medium": {
        "num_layers": 24, "num_attention_heads": 24, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
        "dual_attention_layers": tuple(range(13)),
    },
    "sd3.5-large": LARGE,
    "sd3.5-large-turbo": LARGE,
    "sd3-medium": {"num_layers": 24, "num_attention_heads": 24, "pos_embed_max_size": 192, "qk_norm": None},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_states_its_architecture(name):
    config, preset = CONFIGS[name], PRESETS[name]
    width = 64 * config["num_attention_heads"]
    with torch.device("meta"):
        model = SD3Transformer2DModel(
            sample_size=128,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            attention_head_dim=64,
            joint_attention_dim=4096,
            caption_projection_dim=width,
            pooled_projection_dim=2048,
            **config,
        )
    parameters = sum(weight.numel() for weight in model.parameters())
    dual = len(config.get("dual_attention_layers", ()))
    assert preset.transformer == (config["num_layers"], dual, width, parameters)
    assert preset.max_side == config["pos_embed_max_size"] * 16
    assert all(layer < config["num_layers"] for layer in preset.skip_guidance_layers)


def test_turbo_pays_for_no_second_half():
    assert PRESETS["sd3.5-large-turbo"].guidance_scale <= 1
