"""Memory settings on a real device: the same pictures, and weights that leave it. Skipped where there is none."""

import pytest
import torch

from batchgen.models.files import locate
from batchgen.models.presets import DEMO_CHECKPOINT
from batchgen.models.renderer import ImageRow, load_renderer
from tests.specs import spec_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
COMPONENTS = ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer")
KINDS = [None, "bitsandbytes_4bit", "torchao_int8", "torchao_float8", "float8"]
ROW = ImageRow(
    image_id="0",
    prompt="a red circle",
    seed=0,
    height=128,
    width=128,
    num_inference_steps=4,
    guidance_scale=4.5,
    max_sequence_length=64,
)


def renderer_of(**settings):
    from batchgen.config import Model

    files = locate(Model(preset="demo", pretrained_model_name_or_path=str(DEMO_CHECKPOINT)))
    return load_renderer(spec_of(preset="demo", path=files.path, digest=files.digest, dtype="bfloat16", **settings))


def render(renderer):
    return renderer.decode(renderer.denoise([ROW], renderer.encode([ROW])), [0])[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offload", ["encoders", "model", "group"])
def test_parked_weights_give_the_same_pictures(kind, offload):
    quantization = dict.fromkeys(COMPONENTS, kind)
    expected = render(renderer_of(quantization=quantization))
    parked = renderer_of(quantization=quantization, offload=offload)
    for _ in range(2):
        assert (render(parked) == expected).all()
    encoder = parked.prompts.pipe.text_encoder_3
    assert {weight.device.type for weight in encoder.parameters()} == {"cpu"}


def test_parked_weights_leave_the_device():
    whole = renderer_of()
    render(whole)
    held = torch.cuda.memory_allocated()
    del whole
    parked = renderer_of(offload="encoders")
    render(parked)
    encoders = (getattr(parked.prompts.pipe, name) for name in COMPONENTS[:3])
    weights = sum(weight.nbytes for encoder in encoders for weight in encoder.parameters())
    assert held - torch.cuda.memory_allocated() > 0.9 * weights


@pytest.mark.parametrize("kind", ["bitsandbytes_4bit", "bitsandbytes_8bit"])
def test_quantized_on_the_device(kind):
    renderer = renderer_of(quantization=dict.fromkeys(COMPONENTS, kind))
    assert (render(renderer) == render(renderer)).all()
    assert {weight.device.type for weight in renderer.transformer.parameters()} == {"cuda"}
