"""What only a CUDA device can show. Skipped, visibly, where there is none; `make gpu` runs it."""

import dataclasses

import pytest
import torch

from batchgen.errors import OutOfMemory
from tests.gpu.drawing import render, renderer_of, rows, same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def renderer(request):
    return renderer_of(dtype=request.param)


def test_the_same_call_gives_the_same_bytes(renderer):
    todo = rows(*"abcd")
    assert same(render(renderer, todo), render(renderer, todo))


def test_out_of_memory_is_ours_and_leaves_the_device_usable(renderer):
    todo = rows(*"ab")
    before = render(renderer, todo)
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 32 * 2**20) / total)
    try:
        with pytest.raises(OutOfMemory):
            render(renderer, [dataclasses.replace(row, height=512, width=512) for row in rows(*["x"] * 64)])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert same(before, render(renderer, todo))


def test_the_device_is_named(renderer):
    assert renderer.device == torch.cuda.get_device_name()
    assert "cuda" in renderer.versions


def test_peak_memory_is_that_of_the_tensors(renderer):
    before = renderer.peak_memory()
    assert before >= sum(weights.nbytes for weights in renderer.transformer.parameters())
    kept = torch.zeros(50_000_000, dtype=torch.uint8, device="cuda")
    del kept
    assert before <= renderer.peak_memory() <= torch.cuda.max_memory_reserved()
