"""Promise P2 on CUDA: in a batch of the planned shape a row has its own bits, whatever stands beside it."""

import dataclasses

import pytest
import torch

from batchgen.job.presets import PRESETS
from batchgen.rows.buckets import batch_size
from tests.gpu.drawing import render, renderer_of, rows, same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SAMPLERS = {
    "euler": {},
    "dpmpp_2m": {"sampler": "dpmpp_2m"},
    "euler_ancestral": {"sampler": "euler_ancestral"},
    "dpmpp_2m on beta": {"sampler": "dpmpp_2m", "schedule": "beta"},
    "a window of guidance": {"guidance_start": 0.2, "guidance_stop": 0.8},
}
FULL = batch_size(PRESETS["demo"], 128, 128, 1 << 20)
ROW = "a red circle"


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module", params=SAMPLERS)
def renderer(request, dtype):
    return renderer_of(dtype=dtype, **SAMPLERS[request.param])


@pytest.mark.parametrize("count", [FULL, 16])
@pytest.mark.parametrize("values", [{}, {"skip_layer_guidance_scale": 2.8}, {"guidance_scale": 1.0}])
def test_neighbours_and_place_do_not_matter(renderer, count, values):
    todo = rows(ROW, *[f"{i} blue squares" for i in range(1, count)], **values)
    pictures = render(renderer, todo)
    assert same(render(renderer, todo[::-1])[::-1], pictures)
    strangers = rows(*[f"a much longer prompt than the others, number {i}" for i in range(count)], **values)
    strangers = [dataclasses.replace(row, seed=row.seed + 100) for row in strangers]
    for place in (0, count // 2, count - 1):
        among = [*strangers[:place], todo[0], *strangers[place + 1 :]]
        assert same([render(renderer, among)[place]], [pictures[0]])


def test_the_guidance_of_others_does_not_matter(renderer):
    """A sweep over guidance shares batches: each row is as it would be among rows of its own guidance."""
    scales = [1.5, 3.0, 4.5, 9.0]
    mixed = [dataclasses.replace(row, guidance_scale=scale) for row, scale in zip(rows(*"abcd"), scales, strict=True)]
    pictures = render(renderer, mixed)
    for number, scale in enumerate(scales):
        alone = render(renderer, rows(*"abcd", guidance_scale=scale))
        assert same([alone[number]], [pictures[number]])
    assert not same(pictures, render(renderer, rows(*"abcd"))), "guidance does something"


def test_texts_are_encoded_alike_in_any_company(dtype):
    first, second = renderer_of(dtype=dtype), renderer_of(dtype=dtype)
    (alone,) = first.encode(rows(ROW))
    among = second.encode([*rows("x", "y and z"), *rows(ROW)])[-1]
    for side in ("positive", "negative"):
        ours, theirs = getattr(alone, side), getattr(among, side)
        assert torch.equal(ours.text, theirs.text)
        assert torch.equal(ours.pooled, theirs.pooled)


def test_a_sampler_is_not_euler_under_another_name(dtype):
    """So that the tests above are not all of one loop."""
    todo = rows(*"ab")
    pictures = [
        render(renderer_of(dtype=dtype, sampler=name), todo) for name in ("euler", "dpmpp_2m", "euler_ancestral")
    ]
    assert not same(pictures[0], pictures[1])
    assert not same(pictures[0], pictures[2])
    assert not same(pictures[1], pictures[2])
