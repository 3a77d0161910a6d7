"""The counts of footprint.py against the real architectures on the meta device, tensor by tensor."""

from __future__ import annotations

import weakref
from functools import partial

import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from batchgen.cost import footprint
from batchgen.engines import protocol
from batchgen.engines.sd3.reuse import Reusing
from batchgen.job.presets import PRESETS
from batchgen.job.steps import Reused
from batchgen.weights import shapes
from batchgen.weights.quantization import is_linear, stored

LARGE = {"num_layers": 38, "num_attention_heads": 38, "pos_embed_max_size": 192, "qk_norm": "rms_norm"}
CONFIGS = {
    "sd3.5-medium": {
        "num_layers": 24, "num_attention_heads": 24, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
        "dual_attention_layers": tuple(range(13)),
    },
    "sd3.5-large": LARGE,
    "sd3-medium": {"num_layers": 24, "num_attention_heads": 24, "pos_embed_max_size": 192, "qk_norm": None},
}  # fmt: skip


class Living(TorchDispatchMode):
    """Counts bytes of tensors that were made inside and live; weights, which were made before, count nothing."""

    def __init__(self, module):
        super().__init__()
        self.now = self.peak = 0
        self.known = {tensor.untyped_storage()._cdata for tensor in [*module.parameters(), *module.buffers()]}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.known:
                self.known.add(key)
                self.now += tensor.untyped_storage().nbytes()
                weakref.finalize(tensor.untyped_storage(), self.free, key, tensor.untyped_storage().nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def free(self, key, count):
        self.known.discard(key)
        self.now -= count


def traced(module, call):
    with torch.inference_mode(), Living(module) as living:
        call()
    return living.peak


def meta(*shape, dtype=torch.bfloat16):
    return torch.empty(*shape, dtype=dtype, device="meta")


@pytest.fixture(scope="module", params=CONFIGS)
def transformer(request):
    config = CONFIGS[request.param]
    with torch.device("meta"):
        module = SD3Transformer2DModel(
            sample_size=128,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            attention_head_dim=64,
            joint_attention_dim=4096,
            caption_projection_dim=64 * config["num_attention_heads"],
            pooled_projection_dim=2048,
            **config,
        )
    return request.param, module.to(torch.bfloat16).eval()


def bytes_of(module):
    return sum({id(one): one.nbytes for one in [*module.parameters(), *module.buffers()]}.values())


def linears(module):
    return {f"{n}.weight": tuple(m.weight.shape) for n, m in module.named_modules() if type(m) is torch.nn.Linear}


@pytest.mark.parametrize(("rows", "side", "length"), [(2, 512, 256), (2, 1024, 256), (8, 1024, 512), (2, 1440, 256)])
def test_a_forward_pass(transformer, rows, side, length):
    name, module = transformer
    width, dual = PRESETS[name].transformer[2], PRESETS[name].transformer[1] > 0
    text, image = 77 + length, (side // 16) ** 2
    call = {
        "hidden_states": meta(rows, 16, side // 8, side // 8),
        "timestep": meta(rows, dtype=torch.float32),
        "encoder_hidden_states": meta(rows, text, 4096),
        "pooled_projections": meta(rows, 2048),
    }
    found = traced(module, lambda: module(**call, return_dict=False))
    numbers = (footprint.PER_IMAGE_TOKEN + footprint.PER_DUAL_TOKEN * dual) * image + footprint.PER_TEXT_TOKEN * text
    assert 2 * rows * width * numbers == pytest.approx(found, rel=0.01)


def test_a_forward_pass_whose_blocks_are_to_be_reused(transformer):
    name, module = transformer
    width, dual, image = PRESETS[name].transformer[2], PRESETS[name].transformer[1] > 0, 32 * 32
    call = {
        "hidden_states": meta(2, 16, 64, 64),
        "timestep": meta(2, dtype=torch.float32),
        "encoder_hidden_states": meta(2, 333, 4096),
        "pooled_projections": meta(2, 2048),
    }
    reusing = Reusing(module, Reused(frozenset({1}), frozenset(), saved=2, saved_skipping=0))
    forward = partial(module, **call, return_dict=False)
    computed = traced(module, lambda: reusing.forward(0, lambda layers: forward(skip_layers=layers)[0]))
    numbers = footprint.PER_IMAGE_TOKEN + footprint.PER_DUAL_TOKEN * dual + footprint.PER_REUSED_TOKEN
    assert 2 * 2 * width * (numbers * image + footprint.PER_TEXT_TOKEN * 333) == pytest.approx(computed, rel=0.01)
    assert traced(module, lambda: reusing.forward(1, lambda layers: forward(skip_layers=layers)[0])) < computed / 2


@pytest.mark.parametrize(("height", "width"), [(512, 512), (1024, 1024), (768, 1344), (1440, 1440)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_decoding(height, width, dtype):
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
            sample_size=footprint.TILE,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    vae = torch.nn.Module.to(vae, dtype).eval()
    assert sum(one.numel() for one in vae.parameters()) == shapes.VAE_PARAMETERS
    assert tuple(vae.get_parameter(shapes.DECODER_END).shape) == (256,)
    assert vae.tile_sample_min_size == footprint.TILE
    latents = meta(1, 16, height // 8, width // 8, dtype=dtype)
    found = traced(vae, lambda: vae.decode(latents, return_dict=False))
    assert found == pytest.approx(footprint.PER_PIXEL * 256 * height * width * dtype.itemsize, rel=0.01)


@pytest.fixture(scope="module")
def t5():
    with torch.device("meta"):
        config = T5Config(
            d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu"
        )
        return T5EncoderModel(config).to(torch.bfloat16).eval()


@pytest.mark.parametrize("length", [77, 256, 512])
def test_encoding(t5, length):
    tokens = protocol.ENCODE_BATCH * length
    found = traced(t5, lambda: t5(meta(protocol.ENCODE_BATCH, length, dtype=torch.long)))
    assert found == pytest.approx(2 * footprint.PER_T5_TOKEN * 4096 * tokens, rel=0.06)


def test_shapes_of_t5(t5):
    found = shapes.of_preset(PRESETS["sd3.5-medium"])["text_encoder_3"]
    assert bytes_of(t5) == stored("text_encoder_3", found, "bfloat16", None)
    assert linears(t5) == {name: shape for name, shape in found.items() if is_linear(name, shape)}


@pytest.mark.parametrize(
    ("name", "width", "inner", "layers", "heads"),
    [("text_encoder", 768, 3072, 12, 12), ("text_encoder_2", 1280, 5120, 32, 20)],
)
def test_shapes_of_clip(name, width, inner, layers, heads):
    with torch.device("meta"):
        config = CLIPTextConfig(
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=width,
        )
        module = CLIPTextModelWithProjection(config).to(torch.bfloat16)
    found = shapes.of_preset(PRESETS["sd3.5-medium"])[name]
    assert bytes_of(module) == stored(name, found, "bfloat16", None)
    assert linears(module) == {name: shape for name, shape in found.items() if is_linear(name, shape)}


def test_shapes_of_a_transformer(transformer):
    name, module = transformer
    found = shapes.of_preset(PRESETS[name])["transformer"]
    assert bytes_of(module) == stored("transformer", found, "bfloat16", None)
    assert linears(module) == {name: shape for name, shape in found.items() if is_linear(name, shape)}
