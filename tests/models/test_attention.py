"""The processor of compiled blocks computes what diffusers' does, and a kernel that a CPU has not is refused."""

from __future__ import annotations

import pytest
import torch
from diffusers import SD3Transformer2DModel

from batchgen.engines.sd3.attention import Attention, LeanProcessor
from batchgen.errors import Refused

CPU = torch.device("cpu")


def tiny(**changes):
    """A transformer of SD3's blocks: one with two attentions, one with one, and the last, which gives no text on."""
    torch.manual_seed(0)
    sizes = {
        "sample_size": 16, "pos_embed_max_size": 16, "num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 4,
        "joint_attention_dim": 16, "caption_projection_dim": 32, "pooled_projection_dim": 16,
        "dual_attention_layers": (0,), "qk_norm": "rms_norm",
    }  # fmt: skip
    return SD3Transformer2DModel(**sizes | changes).eval()


def inputs(rows=3, dtype=torch.float32):
    random = torch.Generator().manual_seed(1)
    shapes = {
        "hidden_states": (rows, 16, 8, 6), "encoder_hidden_states": (rows, 7, 16), "pooled_projections": (rows, 16),
    }  # fmt: skip
    found = {name: torch.randn(shape, generator=random).to(dtype) for name, shape in shapes.items()}
    return found | {"timestep": torch.full((rows,), 500.0)}


@torch.inference_mode()
def velocity(transformer, **given):
    return transformer(**given, return_dict=False)[0]


@pytest.mark.parametrize("qk_norm", ["rms_norm", None], ids=["SD3.5", "SD3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_processor_computes_what_that_of_diffusers_does_bit_for_bit(one_thread, qk_norm, dtype):
    transformer = tiny(qk_norm=qk_norm).to(dtype)
    theirs = velocity(transformer, **inputs(dtype=dtype))
    transformer.set_attn_processor(LeanProcessor())
    assert torch.equal(velocity(transformer, **inputs(dtype=dtype)), theirs)


def test_heads_are_not_in_front_of_tokens_in_memory(one_thread, monkeypatch):
    """What a kernel is given, and what it gives, lies as projections write and read it: nothing is copied."""
    given = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def seen(*numbers):
        given.extend((*numbers, kernel(*numbers)))
        return given[-1]

    monkeypatch.setattr("batchgen.engines.sd3.attention.scaled_dot_product_attention", seen)
    transformer = tiny()
    transformer.set_attn_processor(LeanProcessor())
    velocity(transformer, **inputs())
    assert len(given) == 4 * 4, "three blocks, of which one has two attentions"
    assert all(one.transpose(1, 2).is_contiguous() for one in given)


@pytest.mark.parametrize("wanted", ["cudnn", "flash", "efficient", "flash_3"])
def test_kernels_of_gpus_are_refused_on_a_cpu(wanted):
    with pytest.raises(Refused, match=f"{wanted} is a kernel for GPUs, and torch {torch.__version__.split('+')[0]}"):
        Attention.of(wanted, tiny(), CPU)


def test_a_cpu_has_its_own(renderer):
    assert Attention.of("auto", tiny(), CPU) == Attention("cpu")
    assert renderer.versions["attention"] == "cpu"
