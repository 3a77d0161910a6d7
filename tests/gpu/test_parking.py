"""Weights that are stored in fewer bits and parked at the same time: the same pictures, and nothing stays behind."""

import pytest
import torch

from tests.gpu.drawing import render, renderer_of, rows, same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
KINDS = [None, "bitsandbytes_4bit", "torchao_int8", "torchao_float8", "float8"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offload", ["encoders", "model", "group"])
def test_parked_weights_give_the_same_pictures(kind, offload):
    if kind and kind.partition("_")[0] in ("bitsandbytes", "torchao"):
        pytest.importorskip(kind.partition("_")[0])
    settings = {"dtype": "bfloat16", "quantization": dict.fromkeys((*ENCODERS, "transformer"), kind)}
    todo = rows("a red circle")
    expected = render(renderer_of(**settings), todo)
    parked = renderer_of(**settings, offload=offload)
    for _ in range(2):
        assert same(render(parked, todo), expected)
    weights = parked.prompts.pipe.text_encoder_3.parameters()
    assert {weight.device.type for weight in weights} == {"cpu"}


def test_parked_weights_leave_the_device():
    todo = rows("a red circle")
    whole = renderer_of(dtype="bfloat16")
    render(whole, todo)
    held = torch.cuda.memory_allocated()
    del whole
    parked = renderer_of(dtype="bfloat16", offload="encoders")
    render(parked, todo)
    encoders = (getattr(parked.prompts.pipe, name) for name in ENCODERS)
    weights = sum(weight.nbytes for encoder in encoders for weight in encoder.parameters())
    assert held - torch.cuda.memory_allocated() > 0.9 * weights
