"""LoRAs are compared with the layers of a model, wherever its weights are: in a directory, one file, or on a hub."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from batchgen.errors import Refused
from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT, PRESETS
from batchgen.run.found_model import FoundModel
from batchgen.weights.carried import FAMILY, TRANSFORMERS
from batchgen.weights.headers import shapes_in
from batchgen.weights.lora import locate_adapters
from batchgen.weights.shapes import adaptable, of_preset

BASES = {
    "directory": FoundModel(str(DEMO_CHECKPOINT), None, "d", DEMO_CHECKPOINT),
    "single file": FoundModel("/models/tiny.safetensors", None, "d", DEMO_CHECKPOINT, files={"text_encoder": "0"}),
    "hub": FoundModel("owner/name", "commit", "d", DEMO_CHECKPOINT),
}


@pytest.fixture
def located(tmp_path):
    """located(base, layer, width) → what is found of a LoRA for this layer."""

    def locate(base, layer, width):
        factors = {"lora_A": np.ones((2, width), np.float32), "lora_B": np.ones((width, 2), np.float32)}
        save_file({f"{layer}.{half}.weight": value for half, value in factors.items()}, tmp_path / "ink.safetensors")
        model = Model(preset="demo", adapters={"ink": {"path": str(tmp_path / "ink.safetensors")}})
        return locate_adapters(model, BASES[base])

    return locate


def test_configs_say_the_shapes_that_the_weights_have():
    for part, known in adaptable(DEMO_CHECKPOINT).items():
        there = shapes_in(DEMO_CHECKPOINT / part)
        named = {name: shape for name, shape in known.items() if "layer_norm" not in name}
        assert {name: there.get(name) for name in named} == named
        matrices = {name for name, shape in there.items() if len(shape) > 1 and "pos_embed.pos_embed" not in name}
        assert matrices <= known.keys(), part


def test_configs_of_a_preset_say_what_the_preset_says():
    known = adaptable(TRANSFORMERS["sd3.5-medium"].parent)
    assert known == {}  # a folder without configs
    configs = TRANSFORMERS["sd3.5-medium"], FAMILY
    found = {part: shapes for folder in configs for part, shapes in adaptable(folder).items()}
    assert set(found) == {"transformer", "text_encoder", "text_encoder_2"}
    for part, shapes in of_preset(PRESETS["sd3.5-medium"]).items():
        for name, shape in found.get(part, {}).items():
            assert shapes[name] == shape


@pytest.mark.parametrize("base", BASES)
def test_a_lora_of_another_model_is_refused(located, base):
    assert located(base, "transformer.transformer_blocks.5.attn.to_q", 128)["ink"].scale == 1.0
    assert located(base, "text_encoder.text_model.encoder.layers.1.self_attn.q_proj", 48)
    with pytest.raises(Refused, match=r"is a LoRA of another model: there is no transformer\.transformer_blocks\.22"):
        located(base, "transformer.transformer_blocks.22.attn.to_q", 128)
    with pytest.raises(Refused, match=r"is a LoRA of another model: .* is 64 wide, the layer 128"):
        located(base, "transformer.transformer_blocks.5.attn.to_q", 64)
    with pytest.raises(Refused, match="is a LoRA of another model: there is no text_encoder_2"):
        located(base, "text_encoder_2.text_model.encoder.layers.40.self_attn.q_proj", 48)
