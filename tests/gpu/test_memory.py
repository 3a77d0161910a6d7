"""Settings that save memory of a GPU: they do save it, and those that must not change a picture do not."""

import numpy as np
import pytest
import torch

from tests.gpu.drawing import peak_of, render, renderer_of, rows, same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
SIDES = {"height": 256, "width": 256}


@pytest.fixture(scope="module")
def resident():
    """Peak, pictures and the bytes of the text encoders, everything being on the GPU."""
    pipe = renderer_of(dtype="bfloat16").prompts.pipe
    encoders = sum(weight.nbytes for part in ENCODERS for weight in getattr(pipe, part).parameters())
    del pipe
    return *peak_of({"dtype": "bfloat16"}, rows(*"abcd", **SIDES)), encoders


@pytest.mark.parametrize("offload", ["encoders", "model", "group"])
def test_parked_components_give_the_same_pictures_from_less_memory(resident, offload):
    peak, pictures, encoders = resident
    less, ours = peak_of({"dtype": "bfloat16", "offload": offload}, rows(*"abcd", **SIDES))
    assert same(ours, pictures)
    assert less < peak - encoders / 2


def test_parked_encoders_serve_one_shard_after_another():
    parked, plain = renderer_of(offload="encoders"), renderer_of()
    for prompts in ("ab", "cd", "ae"):
        assert same(render(parked, rows(*prompts)), render(plain, rows(*prompts)))


def test_tiles_of_the_vae_take_less_memory_and_nearly_the_same_picture():
    """Beyond sample_size of the VAE, 160 here; batchgen decodes one image at a time anyway."""
    todo = rows("a red circle", height=512, width=512, num_inference_steps=2)
    peaks, pictures = {}, {}
    for tiling in (False, True):
        renderer = renderer_of(dtype="float32", vae_tiling=tiling)
        latents = renderer.denoise(todo, renderer.encode(todo))
        renderer.decode(latents, [0])
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        (pictures[tiling],) = renderer.decode(latents, [0])
        peaks[tiling] = torch.cuda.max_memory_allocated() - before
        assert same(renderer.decode(latents, [0]), [pictures[tiling]])
    assert peaks[True] < 0.8 * peaks[False]
    assert pictures[True].shape == pictures[False].shape == (512, 512, 3)
    difference = np.abs(pictures[True].astype(int) - pictures[False].astype(int))
    assert 0 < difference.mean() < 16, "of 255 levels"


QUANTIZED = {
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "torchao_int8": "torchao",
    "torchao_float8": "torchao",
    "float8": "torch",
}


@pytest.mark.parametrize("kind", QUANTIZED)
def test_quantized_weights_keep_rows_apart(kind):
    pytest.importorskip(QUANTIZED[kind])
    renderer = renderer_of(dtype="bfloat16", quantization={"transformer": kind})
    todo = rows(*"abcd")
    pictures = render(renderer, todo)
    assert same(render(renderer, todo), pictures)
    assert same(render(renderer, todo[::-1])[::-1], pictures)
    assert same(render(renderer, [todo[0], *rows(*"wxyz")[1:]])[:1], pictures[:1])
    plain = render(renderer_of(dtype="bfloat16"), todo)
    assert not same(pictures, plain), "the weights are others"
    assert np.abs(np.stack(pictures).astype(int) - np.stack(plain).astype(int)).mean() < 32, "of 255 levels"
