"""Parked components: the same pictures, and weights that are where they are said to be. The other device is meta, which
holds no numbers: what is there has really moved, and what comes back has really stayed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from batchgen.engines import load_renderer
from batchgen.engines.sd3.placement import Parked, Placement, stream
from batchgen.errors import OutOfMemory

META = torch.device("meta")
CPU = torch.device("cpu")
OFFLOADS = ["encoders", "model", "group"]


def render(renderer, rows):
    latents = renderer.denoise(rows, renderer.encode(rows))
    return latents, renderer.decode(latents, range(len(rows)))


def devices(module):
    return {tensor.device.type for tensor in [*module.parameters(), *module.buffers()]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("offload", OFFLOADS)
def test_pictures_are_the_same(make_spec, make_row, renderer, bf16_renderer, dtype, offload):
    rows = [make_row(i, skip_layer_guidance_scale=2.0) for i in range(2)]
    latents, pixels = render(renderer if dtype == "float32" else bf16_renderer, rows)
    parked = load_renderer(make_spec(dtype=dtype, offload=offload))
    for _ in range(2):  # what was parked once comes back whole
        again, same = render(parked, rows)
        assert torch.equal(again, latents)
        assert all((one == other).all() for one, other in zip(same, pixels, strict=True))


@pytest.mark.parametrize("kind", ["bitsandbytes_4bit", "torchao_int8", "torchao_float8", "float8"])
@pytest.mark.parametrize("offload", OFFLOADS)
def test_quantized_weights_can_be_parked(make_spec, make_row, kind, offload):
    quantization = dict.fromkeys(("transformer", "text_encoder", "text_encoder_2", "text_encoder_3"), kind)
    rows = [make_row(0)]
    expected, _ = render(load_renderer(make_spec(dtype="bfloat16", quantization=quantization)), rows)
    parked = load_renderer(make_spec(dtype="bfloat16", quantization=quantization, offload=offload))
    assert torch.equal(render(parked, rows)[0], expected)
    assert torch.equal(render(parked, rows)[0], expected)


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2", "text_encoder_3", "transformer"])
def test_blocks_come_one_by_one(load_pipe, name):
    component = getattr(load_pipe("float32"), name)
    before = {key: tensor.clone() for key, tensor in component.state_dict().items()}
    stream(component, META)
    seen = []
    blocks = [one for module in component.modules() if type(module) is nn.ModuleList for one in module]
    blocks = [block for block in blocks if block._forward_pre_hooks]
    for block in blocks:
        block.register_forward_pre_hook(lambda *_: seen.append([devices(one) for one in blocks]))
    if name == "transformer":
        inputs = (torch.empty(2, 16, 8, 8, device=META), torch.empty(2, 93, 128, device=META))
        component(*inputs, torch.empty(2, 128, device=META), torch.empty(2, device=META))
    else:
        component(torch.zeros(2, 16, dtype=torch.long, device=META))
    assert len(blocks) == {"transformer": 6}.get(name, 2)
    assert seen == [[{"meta"} if at == here else {"cpu"} for at in range(len(blocks))] for here in range(len(blocks))]
    assert devices(component) == {"cpu"}
    assert all(torch.equal(tensor, before[key]) for key, tensor in component.state_dict().items())


@pytest.mark.parametrize("offload", ["none", *OFFLOADS])
def test_components_lie_where_they_are_said_to(load_pipe, offload):
    pipe = load_pipe("float32")
    placement = Placement(pipe, offload, META)
    names = ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae")

    def here():
        return {name for name in names if devices(getattr(pipe, name)) == {"meta"}}

    at_first = {"none": set(names), "encoders": {"transformer", "vae"}, "model": set(), "group": {"vae"}}
    assert here() == at_first[offload]
    for name in ("transformer", "vae", "vae", "transformer"):
        placement.use(name)
        assert here() == ({name} if offload == "model" else at_first[offload])


def test_nothing_stays_where_memory_ran_out(make_spec, make_row):
    renderer = load_renderer(make_spec(offload="group"))
    expected, _ = render(renderer, [make_row(0)])
    block = renderer.transformer.transformer_blocks[2]

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    handle = block.register_forward_hook(fail)
    with pytest.raises(OutOfMemory):
        render(renderer, [make_row(0)])
    handle.remove()
    assert torch.equal(render(renderer, [make_row(0)])[0], expected)


def test_a_block_that_failed_is_parked():
    block = nn.Sequential(nn.Linear(4, 4))
    parent = nn.Module()
    parent.blocks = nn.ModuleList([block])
    parent.forward = lambda x: parent.blocks[0](x)
    stream(parent, META)
    with pytest.raises(RuntimeError):
        parent(torch.empty(2, 5, device=META))  # of the wrong width
    assert devices(parent) == {"cpu"}


def test_one_tensor_under_two_names_stays_one():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    parked = Parked([first, second], META)
    assert first.weight is second.weight
    parked.bring()
    assert first.weight is second.weight
    assert first.weight.is_meta
    parked.park()
    assert first.weight is second.weight
    assert not first.weight.is_meta


def test_what_came_later_is_brought_and_parked_too():
    """An adapter's weights are put on a component after it was placed."""
    module = nn.Linear(4, 4)
    parked = Parked([module], META)
    module.later = nn.Parameter(torch.ones(3))
    parked.bring()
    assert module.later.is_meta
    parked.park()
    assert torch.equal(module.later, torch.ones(3))


def test_an_upcast_vae_is_parked_as_it_was(make_spec, make_row):
    renderer = load_renderer(make_spec(dtype="bfloat16", offload="model"))
    latents, pixels = render(renderer, [make_row(0)])
    renderer.placement.use("transformer")  # the VAE is parked
    renderer.decode(latents, [0], upcast=True)
    assert renderer.vae.dtype == torch.bfloat16
    renderer.placement.use("transformer")
    assert (renderer.decode(latents, [0])[0] == pixels[0]).all()


def test_tiles_change_large_pictures_only(make_spec, make_row, renderer):
    tiled = load_renderer(make_spec(vae_tiling=True))
    for size, same in ((64, True), (192, False)):  # the demo's VAE has tiles of 160 pixels
        row = make_row(0, height=size, width=size, num_inference_steps=1)
        _, (pixels,) = render(renderer, [row])
        _, (others,) = render(tiled, [row])
        assert others.shape == (size, size, 3)
        assert (pixels == others).all() == same
        assert abs(pixels.astype(int) - others).mean() < 8


def test_the_cpu_is_a_device_like_others(make_spec):
    assert load_renderer(make_spec(offload="model")).torch_device == CPU
