"""kernels: compiled, on a CPU: a row depends on itself and its batch size alone, whatever its process met before.

The demonstration's pipeline with a transformer of one block of random weights, so that each shape is one graph.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import save_file

from batchgen.engines import load_renderer
from batchgen.engines.sd3.kernels import Kernels, make_reproducible
from batchgen.engines.sd3.load import load_pipeline
from batchgen.engines.sd3.quantize import multiply_in_fp8
from batchgen.engines.sd3.renderer import SD3Renderer
from batchgen.engines.sd3.second_pass import TwoPassRenderer
from batchgen.errors import Infrastructure, OutOfMemory, Refused
from batchgen.job import Adapter, Model, Refine
from batchgen.run.found_model import AdapterFile
from batchgen.weights.digests import hash_all
from tests.models.test_adapters import lora
from tests.models.test_attention import inputs, tiny, velocity
from tests.specs import with_sampling

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, of torch
ROOT = Path(__file__).parents[2]
LAYERS = [f"transformer.transformer_blocks.0.attn.to_{name}" for name in "qkv"]


def one_block():
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=32, pos_embed_max_size=32, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=128, caption_projection_dim=32, pooled_projection_dim=128, qk_norm="rms_norm",
    ).eval()  # fmt: skip


def make_renderer(spec):
    pipe = load_pipeline(spec)
    pipe.transformer = one_block()
    return SD3Renderer(pipe, spec)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of compiled kernels, empty at first."""
    folder = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        patch.setattr(torch._inductor.config, "compile_threads", 1)  # no pool of processes for one graph
        patch.setattr(torch._inductor.config.cpp, "vec_isa_ok", True)  # what this CPU has needs no programs to find out
        yield folder
    torch.compiler.reset()


@pytest.fixture(scope="module")
def spec(make_spec, tmp_path_factory):
    file = tmp_path_factory.mktemp("loras") / "ink.safetensors"
    save_file(lora(1, LAYERS, width=32), file)
    ink = AdapterFile(path=str(file), sha256=hash_all({"": file})[""], scale=1.0)
    compiled = make_spec(kernels="compiled", adapters={"ink": Adapter(path=str(file))}, skip_guidance_layers=[0])
    return replace(compiled, adapters={"ink": ink})


@pytest.fixture(scope="module")
def compiled(spec, cache, one_thread):
    return make_renderer(spec)


@pytest.fixture(scope="module")
def eager(spec, one_thread):
    return make_renderer(replace(spec, model=spec.model.model_copy(update={"kernels": "eager"})))


def render(renderer, rows):
    return renderer.denoise(rows, renderer.encode(rows))


@torch.inference_mode()
def denoised():
    """sha256 of latents after a few steps, of a guided batch of two at the size of make_row()."""
    torch.set_num_threads(1)
    transformer, random = one_block(), torch.Generator().manual_seed(1)
    kernels = Kernels(transformer, Model(preset="demo", kernels="compiled"), torch.device("cpu"))
    shapes = (4, 16, 8, 6), (4, 93, 128), (4, 128)
    latents, text, pooled = (torch.randn(shape, generator=random) for shape in shapes)
    for step in range(1, 5):
        with kernels.at_work(*latents.shape):
            latents = latents - 0.2 * transformer(latents, text, pooled, torch.full((4,), 1000 / step)).sample
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()


def test_fresh_processes_with_empty_caches_compute_equally(cache, one_thread, tmp_path):
    """This process and another one; neither finds a kernel that somebody else has compiled."""
    code = "from tests.models.test_compiled import denoised; print(denoised())"
    said = {"CACHE_DIR": str(tmp_path), "COMPILE_THREADS": "1", "VEC_ISA_OK": "1"}  # as `cache` has it here
    environment = os.environ | {f"TORCHINDUCTOR_{name}": value for name, value in said.items()}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert [*tmp_path.rglob("*.so")], "it did compile"
    assert done.stdout.split()[-1] == denoised()


def test_it_is_close_to_eager_and_not_eager(compiled, eager, make_row):
    rows = [make_row(0), make_row(1)]
    one, other = render(compiled, rows), render(eager, rows)
    assert (one - other).abs().max() < 1e-3
    assert compiled.compile_seconds > 0
    assert eager.compile_seconds is None


@pytest.mark.parametrize("changes", [{}, {"skip_layer_guidance_scale": 2.0}], ids=["guided", "skip layers"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_neighbours_order_and_what_came_before_do_not_matter(compiled, make_row, monkeypatch, sampler, changes):
    monkeypatch.setattr(compiled, "spec", with_sampling(compiled.spec, sampler=sampler))
    rows = [make_row(i, **changes) for i in range(2)]
    latents = render(compiled, rows)
    assert torch.equal(render(compiled, [rows[0], make_row(7, prompt="else", **changes)])[0], latents[0])
    render(compiled, [make_row(0, guidance_scale=1.0), make_row(1, guidance_scale=1.0)])  # a shape of its own
    assert torch.equal(render(compiled, rows[::-1]).flip(0), latents)


def test_which_shape_came_first_does_not_matter(spec, compiled, make_row, cache):
    """A renderer that begins with the other shape takes the same kernels: none is for shapes in general."""
    rows, unguided = ([make_row(i, guidance_scale=scale) for i in range(2)] for scale in (4.5, 1.0))
    latents, others = render(compiled, rows), render(compiled, unguided)
    kernels = {*cache.rglob("*.cpp")}
    torch.compiler.reset()
    late = make_renderer(spec)
    assert torch.equal(render(late, unguided), others)
    assert torch.equal(render(late, rows), latents)
    assert {*cache.rglob("*.cpp")} == kernels


def test_a_lora_works_and_leaves_no_trace(compiled, eager, make_row):
    plain, inked = [make_row(0), make_row(1)], [make_row(0, adapter="ink"), make_row(1, adapter="ink")]
    before, changed = render(compiled, plain), render(compiled, inked)
    assert not torch.equal(changed, before)
    assert (changed - render(eager, inked)).abs().max() < 1e-3
    assert torch.equal(render(compiled, plain), before)
    assert torch.equal(render(compiled, inked[::-1]).flip(0), changed)


def test_a_second_pass_works(compiled, eager, make_row):
    refine = Refine(scale=1.0, strength=0.5, num_inference_steps=4)
    rows = [make_row(0), make_row(1)]
    one, other = (render(TwoPassRenderer(each, each, refine), rows) for each in (compiled, eager))
    assert (one - other).abs().max() < 1e-3
    assert TwoPassRenderer(compiled, compiled, refine).compile_seconds == compiled.compile_seconds


def test_weights_that_take_turns_do_not_compile_anew(spec, compiled, make_row):
    turns = make_renderer(replace(spec, model=spec.model.model_copy(update={"offload": "model"})))
    rows = [make_row(0), make_row(1)]
    latents = render(turns, rows)
    assert torch.equal(latents, render(compiled, rows))
    turns.decode(latents, [0])
    seconds = turns.compile_seconds
    assert torch.equal(render(turns, rows), latents)
    assert turns.compile_seconds == seconds


def test_a_compiler_that_fails_is_the_machines_error_and_never_a_rows(spec, make_row, cache, monkeypatch):
    """Not computed eagerly instead, either."""
    broken = make_renderer(spec)
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/nowhere/g++",))
    rows = [make_row(0, height=96), make_row(1, height=96)]
    with pytest.raises(Infrastructure, match=r"torch.compile failed on this machine .*model.kernels: eager"):
        render(broken, rows)


def test_memory_that_runs_out_is_still_what_it_is(spec, cache):
    kernels = Kernels(tiny(), Model(preset="demo", kernels="compiled"), torch.device("cpu"))
    with pytest.raises(torch.OutOfMemoryError), kernels.at_work(1):
        raise torch.OutOfMemoryError("CUDA out of memory")
    failed = torch._dynamo.exc.BackendCompilerFailed(compile, RuntimeError("CUDA error: out of memory"), None)
    with pytest.raises(OutOfMemory), kernels.at_work(1):
        raise failed


def test_nothing_is_chosen_by_timing_and_many_shapes_may_come():
    make_reproducible()
    inductor = torch._inductor.config
    assert inductor.deterministic
    timed = (inductor.max_autotune, inductor.max_autotune_gemm, inductor.coordinate_descent_tuning)
    assert timed == (False, False, False)
    assert torch._dynamo.config.recompile_limit > 10_000
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


# --- compiled_fp8


def test_fp8_is_refused_on_a_cpu(make_spec):
    with pytest.raises(Refused, match=r"compiled_fp8 needs a GPU of compute capability 8.9 or newer .* on a CPU"):
        load_renderer(make_spec(kernels="compiled_fp8", dtype="bfloat16"))


@pytest.fixture
def in_fp8(one_thread, monkeypatch):
    """torchao refuses a CPU, which computes the same products, only slowly."""
    monkeypatch.setattr("torchao.quantization.quant_api._check_hardware_support", lambda granularity: None)
    transformer = tiny().to(torch.bfloat16)
    multiply_in_fp8(transformer, torch.device("cpu"))
    return transformer


def test_fp8_takes_the_linear_layers_of_blocks_and_leaves_modulation(in_fp8):
    taken = {name for name, weight in in_fp8.named_parameters() if "Float8" in type(weight).__name__}
    linear = {f"{name}.weight" for name, module in in_fp8.named_modules() if isinstance(module, torch.nn.Linear)}
    assert taken < linear
    left = {name.removeprefix("transformer_blocks.0.").removeprefix("transformer_blocks.1.") for name in linear - taken}
    assert {name for name in left if not name.startswith("transformer_blocks.2")} == {
        "norm1.linear.weight", "norm1_context.linear.weight", "time_text_embed.timestep_embedder.linear_1.weight",
        "time_text_embed.timestep_embedder.linear_2.weight", "time_text_embed.text_embedder.linear_1.weight",
        "time_text_embed.text_embedder.linear_2.weight", "context_embedder.weight", "norm_out.linear.weight",
        "proj_out.weight",
    }  # fmt: skip


def test_in_fp8_a_loud_neighbour_changes_nothing(in_fp8):
    """A scale for the whole tensor would: then the neighbour's largest number is what all are divided by."""
    given = inputs(dtype=torch.bfloat16)
    quiet = velocity(in_fp8, **given)
    loud = {name: one.clone() for name, one in given.items()}
    for name in ("hidden_states", "encoder_hidden_states", "pooled_projections"):
        loud[name][1:] *= 30
    shouted = velocity(in_fp8, **loud)
    assert torch.equal(shouted[0], quiet[0])
    assert not torch.equal(shouted[1], quiet[1])
    assert 0 < (quiet - velocity(tiny().to(torch.bfloat16), **given)).abs().mean() < 0.02
