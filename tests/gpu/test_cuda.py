"""What only a CUDA device can show. Skipped, visibly, where there is none; `make gpu` runs it."""

import dataclasses

import numpy as np
import pytest
import torch

from batchgen.errors import OutOfMemory
from batchgen.models.files import locate
from batchgen.models.presets import DEMO_CHECKPOINT
from batchgen.models.renderer import ImageRow, load_renderer
from tests.specs import spec_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def renderer(request):
    from batchgen.config import Model

    files = locate(Model(preset="demo", pretrained_model_name_or_path=str(DEMO_CHECKPOINT)))
    return load_renderer(spec_of(preset="demo", path=files.path, digest=files.digest, dtype=request.param))


def rows(*prompts, **values):
    defaults = {"height": 128, "width": 128, "num_inference_steps": 8, "guidance_scale": 4.5, "max_sequence_length": 64}
    return [
        ImageRow(image_id=str(n), prompt=prompt, seed=n, **{**defaults, **values}) for n, prompt in enumerate(prompts)
    ]


def render(renderer, todo):
    return renderer.decode(renderer.denoise(todo, renderer.encode(todo)), range(len(todo)))


def test_neighbours_do_not_matter(renderer):
    row = rows("a red circle")[0]
    first = render(renderer, [row, *rows(*"bcd")])[0]
    for others in (rows(*"xyz"), rows("a much longer prompt than the others", "", "q")):
        assert np.array_equal(render(renderer, [row, *others])[0], first)


def test_place_in_the_batch_does_not_matter(renderer):
    todo = rows(*"abcd")
    assert np.array_equal(render(renderer, todo)[0], render(renderer, todo[::-1])[3])


def test_the_same_call_gives_the_same_bytes(renderer):
    todo = rows(*"abcd")
    assert all(np.array_equal(x, y) for x, y in zip(render(renderer, todo), render(renderer, todo), strict=True))


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
    assert all(np.array_equal(x, y) for x, y in zip(before, render(renderer, todo), strict=True))


def test_the_device_is_named(renderer):
    assert renderer.device == torch.cuda.get_device_name()
    assert "cuda" in renderer.versions


def test_peak_memory_is_that_of_the_tensors(renderer):
    before = renderer.peak_memory()
    assert before >= sum(weights.nbytes for weights in renderer.transformer.parameters())
    kept = torch.zeros(50_000_000, dtype=torch.uint8, device="cuda")
    del kept
    assert before <= renderer.peak_memory() <= torch.cuda.max_memory_reserved()
