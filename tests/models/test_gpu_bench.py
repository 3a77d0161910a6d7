"""jobs/bench/gpu.py as it is run, on a CPU with a tiny model, where Ray and most of what batchgen needs is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from on_gpu.experiments import Laboratory
from on_gpu.kernel_times import class_of, shares
from on_gpu.memory import SETTINGS
from on_gpu.model_in_hand import Model
from on_gpu.random_model import WEIGHTS, build_part
from on_gpu.result import Result, Section
from on_gpu.reused import BLOCKS
from on_gpu.sections import parts
from on_gpu.stopwatch import Stopwatch
from on_gpu.summary import bits_differ, summary

from batchgen.job.presets import PRESETS

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
# Whatever a machine may lack that has torch, transformers, diffusers and pydantic. The tests themselves need rich.
MISSING = ("ray", "pyarrow", "pandas", "typer", "s3fs", "imagehash", "scipy", "datasets", "peft", "bitsandbytes",
           "torchao", "accelerate", "duckdb")  # fmt: skip
HIDE = f"""
import importlib.machinery, runpy, sys

class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, *more):
        return None if name.split(".")[0] in {MISSING!r} else super().find_spec(name, *more)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Hiding
"""
BENCH = "sys.path.insert(0, 'jobs/bench'); runpy.run_path('jobs/bench/gpu.py', run_name='__main__')"
SMALL = ("--size=tiny", "--device=cpu", "--steps=2", "--minutes=9")
# All that is computed in the command's own process; experiments compile, each for half a minute.
FIRST = ("ceiling", "build", "encode", "alike", "speed", "ceiling_after", "profile", "attention", "attention_denoising",
         "products")  # fmt: skip
SECOND = ("ceiling", "build", "encode", "eager", "reuse", "norms", "gelu", "speed", "alike", "sweep", "busy", "memory")


def run(code, *arguments):
    command = [sys.executable, "-c", HIDE + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def measured(out, *arguments):
    done = run(BENCH, *SMALL, f"--out={out}", *arguments)
    assert done.returncode == 0, done.stdout
    found, said = json.loads(out.read_text()), json.loads(done.stdout.splitlines()[-1])
    assert said["summary"] == found["summary"]
    assert said["bits_differ"] == []
    assert found["failed"] == {}
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "made" / "gpu_1.json"
    return measured(out, "--part=1", "--sides", 64, "--only", *FIRST)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "gpu_2.json"
    return measured(out, "--part=2", "--sides", 64, 96, "--only", *SECOND)


def test_rows_are_alike_and_those_of_diffusers(first, second):
    assert first["encode"]["alike"] is second["encode"]["alike"] is True
    for found in (first["alike"]["64"], second["alike"]["96"]):
        assert found["rows"] == dict.fromkeys(("again", "order", "neighbours", "pixels"), True)
        assert 0 <= found["alone_max_difference"] < 1e-3
        assert found["like_pipe"] == {"identical": True, "max_difference": 0.0}


def test_speed_is_a_share_of_the_ceiling(first, second):
    for found, all_found in ((first["speed"]["64"], first), (second["speed"]["96"], second)):
        ceiling = all_found["ceiling"]
        assert 0.001 < ceiling["sustained_tflop_per_s"] < 100
        parts = [found[f"{part}_s_per_image"] for part in ("encode", "denoise", "decode")]
        assert sum(parts) == pytest.approx(found["seconds_per_image"], rel=0.01)
        assert found["pipe_seconds_per_image"] / found["seconds_per_image"] == pytest.approx(found["speedup"], rel=0.01)
        rate = found["tflop_per_image"] / sum(parts[1:])
        assert found["share_of_ceiling"] == pytest.approx(rate / ceiling["tflop_per_s"], rel=0.01)
        assert found["share_of_ceiling_sustained"] == pytest.approx(rate / ceiling["sustained_tflop_per_s"], rel=0.01)
    assert (first["speed"]["64"]["num_inference_steps"], second["speed"]["96"]["num_inference_steps"]) == (2, 1)
    assert first["summary"]["seconds_per_image"] == {"eager": first["speed"]["64"]["seconds_per_image"]}


def test_kernels_are_told_apart_and_all_of_the_time_is_shared_out(first):
    for stage in ("forward", "decode"):
        found = first["profile"][stage]["shares"]
        assert sum(found.values()) == pytest.approx(1.0, abs=0.001)
        assert found["other"] < 0.2
    assert first["profile"]["forward"]["shares"]["attention"] > first["profile"]["decode"]["shares"]["attention"]
    assert first["profile"]["decode"]["shares"]["conv"] > 0.2
    assert first["profile"]["forward"]["shares"]["matmul"] > 0.2


@pytest.mark.parametrize(
    ("kernel", "kind"),
    {
        "nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT": "matmul",
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>": "matmul",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64": "attention",
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4>>": "attention",
        "fmha_cutlassF_bf16_aligned_64x64_rf_sm80": "attention",
        "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc": "conv",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps>>": "norm",
        "void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda>": "copy",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<c10::BFloat16, 4>": "copy",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>>": "elementwise",
        "triton_poi_fused_add_gelu_3": "elementwise",
        "void splitKreduce_kernel<32, 16, int, float, __nv_bfloat16>": "matmul",
        "something new": "other",
    }.items(),
)
def test_kernels_of_a_gpu_have_a_class(kernel, kind):
    assert class_of(kernel) == kind


def test_shares_are_of_the_time():
    found = shares([("nvjet_a", 3, 750.0), ("something new", 1, 250.0)])
    assert (found["milliseconds"], found["kernels"]) == (1.0, 4)
    assert found["shares"]["matmul"] == 0.75
    assert found["largest"][0] == {"kernel": "nvjet_a", "class": "matmul", "calls": 3, "share": 0.75}


def test_what_no_cpu_has_says_so(first):
    joint, image = (first["attention"][name] for name in ("joint", "image"))
    assert joint["shape"][2] > image["shape"][2] == 16
    assert joint["tflop_per_s"][joint["tflop_per_s"]["chosen"]] > 0
    assert joint["tflop_per_s"]["cudnn"].startswith("cannot")
    assert "a kernel for GPUs" in first["attention_denoising"]["cudnn"]["left_out"]
    assert len(first["products"]) == 5


def test_other_ways_compute_nearly_the_same(second):
    assert 0 < second["gelu"]["max_difference"] < 2e-3  # a CPU has erf's GELU in the place of tanh's
    assert all(found["max_difference"] < 1e-5 for found in second["norms"].values())
    assert all(found["max_difference"] > 0 for found in second["reuse"].values())
    assert len(second["reuse"]) == 3
    assert set(second["sweep"]["96"]["seconds_per_image_and_step"]) == {"4", "8"}


def test_bytes_are_not_known_on_a_cpu(second):
    assert {name.partition(" ")[2] for name in second["left_out"] if name.startswith("memory")} == {
        name for name, settings in SETTINGS.items() if "bitsandbytes" in str(settings) or "torchao" in str(settings)
    }
    assert "bitsandbytes is not installed" in second["left_out"]["memory T5 in int8"]
    assert "pyarrow" in second["left_out"]["busy"]
    for cases in second["memory"].values():
        assert set(cases) == {"model", "64 x 1", "64 x 4"}
        measured = [cases[case] for case in sorted(cases) if case != "model"]
        assert all(case["peak_bytes"] is case["denoise"] is None and case["seconds"] > 0 for case in measured)
        assert all(min(case["predicted"].values()) > 0 for case in measured)
    assert second["speed"]["96"]["peak_bytes"] is second["context_bytes"] is None
    plain, parked = (second["memory"][name]["64 x 4"] for name in ("all resident", "text encoders parked"))
    assert parked["predicted"]["denoise"] < plain["predicted"]["denoise"]
    weights = second["build"]["weights_bytes"]
    assert set(weights) == set(WEIGHTS)
    assert weights["transformer"] > 4 * PRESETS["demo"].transformer[3]  # fp32, and the table of positions


@pytest.fixture
def watch():
    return Stopwatch(CPU, time.perf_counter() + 100)


@pytest.mark.parametrize("part", [1, 2])
def test_a_part_fits_its_minutes(part, watch):
    """Beside 30 s of imports; of part 2 all that needs no package which few machines have, and four settings."""
    sections = parts(part, Model("medium", 40, watch), [1024, 512, 768, 1440], {}, Path())
    sections = [one for one in sections if one.title not in ("experiment flash_3", *_last_settings())]
    assert sum(one.seconds for one in sections) <= 8 * 60 - 30


def _last_settings():
    return {f"memory {name}" for name in [*SETTINGS][4:]}


def test_a_section_that_fails_or_does_not_fit_is_named_and_the_rest_goes_on(watch, tmp_path, capsys):
    result = Result(tmp_path / "a" / "b.json", watch, {})
    result.take(Section("broken", 1, lambda: {}["x"], "1"), needs=1)
    result.take(Section("long", 1000, dict), needs=1000)
    result.take(Section("absent", 1, lambda: {"left_out": "not installed"}), needs=1)
    result.take(Section("good", 1, lambda: {"answer": 4}, "64"), needs=1)
    stored = json.loads((tmp_path / "a" / "b.json").read_text())
    assert stored["good"] == {"64": {"answer": 4}}
    assert stored["failed"] == {"broken 1": "KeyError: 'x'"}
    assert set(stored["left_out"]) == {"long", "absent"}
    assert "it takes about 1000" in stored["left_out"]["long"]


FOUND = {
    "ceiling": {"sustained_tflop_per_s": 500.0},
    "speed": {"1024": {"seconds_per_image": 3.0, "pipe_seconds_per_image": 3.2, "encode_s_per_image": 0.1}},
    "experiment": {
        "compiled": {
            "denoise_s_per_image": 1.8,
            "decode_s_per_image": 0.1,
            "rows": {"again": True, "order": False},
            "reuse": {"blocks": {"denoise_s_per_image": 1.0}},
        },
        "pipe compiled": {"pipe_s_per_image_without_encoding": 2.0},
        "compiled again": {"same_latents": False},
    },
}


def test_the_summary_adds_up():
    found = summary(FOUND, 1024, tflop_per_image=950.0)
    assert found["seconds_per_image"] == {"eager": 3.0, "compiled": 2.0, "reuse of blocks": 1.2}
    assert found["best"] == "reuse of blocks"
    assert (found["pipe_seconds_per_image"], found["pipe_compiled_seconds_per_image"]) == (3.2, 2.1)
    assert found["speedup_best"]["pipe_compiled_seconds_per_image"] == 1.75
    assert found["speedup"]["compiled"] == 1.5
    assert found["share_of_ceiling_sustained"] == {"eager": 0.6552, "compiled": 1.0}


def test_other_bits_are_named():
    assert bits_differ(FOUND) == ["experiment compiled: order", "experiment compiled again: same_latents"]
    assert bits_differ({}) == []


def test_the_full_size_is_that_of_the_checkpoint():
    parameters = {
        part: sum(
            weight.numel() for weight in build_part("medium", part, torch.device("meta"), torch.bfloat16).parameters()
        )
        for part in WEIGHTS
    }
    assert parameters == {
        "transformer": PRESETS["sd3.5-medium"].transformer[3],
        "vae": 83_819_683,
        "text_encoder": 123_650_304,
        "text_encoder_2": 694_659_840,
        "text_encoder_3": 4_762_310_656,
    }


def test_without_a_gpu_it_says_how_to_try_it():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run(BENCH)
    assert done.returncode == 0  # as tests/gpu, which `make gpu` runs before it
    assert done.stdout.splitlines()[-1].startswith("skipped")
    assert "--size tiny --device cpu" in done.stdout


def test_the_gpu_tests_can_be_collected_where_ray_is_missing():
    done = run("import pytest; sys.exit(pytest.main(['tests/gpu', '-p', 'no:cacheprovider']))")
    assert done.returncode == 0, done.stdout
    assert "error" not in done.stdout


def test_an_experiment_has_the_batch_of_the_command_and_its_bits(watch, tmp_path):
    """Eagerly, since compiling takes half a minute: the same latents in the other process."""
    model = Model("tiny", 2, watch)
    laboratory = Laboratory(model, 64, tmp_path)
    found = laboratory.run("eager", alike=True, schedules=BLOCKS)
    assert found["max_difference"] == 0.0
    assert found["compile_s"] is None
    assert found["rows"] == dict.fromkeys(("again", "order", "neighbours", "pixels"), True)
    assert found["reuse"]["blocks"]["max_difference"] > 0
