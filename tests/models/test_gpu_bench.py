"""jobs/bench/gpu.py as it is run, on a CPU with a tiny model, where Ray and most of what batchgen needs is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench.random_model import WEIGHTS, build_part

from batchgen.job.presets import PRESETS

ROOT = Path(__file__).parents[2]
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
SETTINGS = {
    "all resident", "text encoders parked", "model offload", "group offload", "no T5", "VAE tiling",
    "transformer in float8",
}  # fmt: skip


def run(code, *arguments):
    command = [sys.executable, "-c", HIDE + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "gpu.json"
    done = run(BENCH, "--size=tiny", "--device=cpu", "--sides", 64, 96, "--steps=2", "--minutes=1.6", f"--out={out}")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(out.read_text())
    return json.loads(out.read_text())


def test_every_section_ran_or_says_why_not(result):
    assert result["failed"] == {}
    assert set(result["left_out"]) == {
        "memory transformer in NF4",
        "memory text encoders parked, transformer in NF4",
        "memory T5 in NF4",
        "memory T5 in int8",
        "memory transformer in torchao int8",
        "memory transformer in torchao float8",
        "compiled 96",  # takes more than the minutes that it was given
    }
    assert "bitsandbytes is not installed" in result["left_out"]["memory T5 in int8"]


def test_rows_are_alike_and_those_of_diffusers(result):
    assert result["encode"]["alike"] is True
    for side in ("64", "96"):
        answers = dict.fromkeys(("again", "order", "neighbours", "pixels"), True)
        assert result["alike"][side]["rows"] == answers
        assert 0 <= result["alike"][side]["alone_max_difference"] < 1e-3
        assert result["alike"][side]["like_pipe"] == {"identical": True, "max_difference": 0.0}


def test_speed_is_a_share_of_the_ceiling(result):
    ceiling = result["ceiling"]["tflop_per_s"]
    assert 0.001 < ceiling < 100
    for found in result["speed"].values():
        assert found["batch_size"] == 4
        parts = [found[f"{part}_s_per_image"] for part in ("encode", "denoise", "decode")]
        assert sum(parts) == pytest.approx(found["seconds_per_image"], rel=0.01)
        assert found["pipe_seconds_per_image"] / found["seconds_per_image"] == pytest.approx(found["speedup"], rel=0.01)
        assert found["tflop_per_image"] / sum(parts[1:]) == pytest.approx(found["tflop_per_s"], rel=0.01)
        assert found["share_of_ceiling"] == pytest.approx(found["tflop_per_s"] / ceiling, rel=0.01)
        assert 0.01 < found["share_of_ceiling"] < 2
    assert result["speed"]["96"]["tflop_per_image"] > result["speed"]["64"]["tflop_per_image"]


def test_bytes_are_not_known_on_a_cpu(result):
    assert set(result["memory"]) == SETTINGS
    for cases in result["memory"].values():
        assert set(cases) == {"model", "64 x 1", "64 x 4", "96 x 1", "96 x 4"}
        measured = [cases[case] for case in sorted(cases) if case != "model"]
        assert all(case["peak_bytes"] is case["denoise"] is None and case["seconds"] > 0 for case in measured)
        assert all(min(case["predicted"].values()) > 0 for case in measured)
    assert result["speed"]["64"]["peak_bytes"] is result["context_bytes"] is None
    plain, parked = (result["memory"][name]["96 x 4"] for name in ("all resident", "text encoders parked"))
    assert parked["predicted"]["denoise"] < plain["predicted"]["denoise"]
    weights = result["weights_bytes"]
    assert set(weights) == set(WEIGHTS)
    assert weights["transformer"] > 4 * PRESETS["demo"].transformer[3]  # fp32, and the table of positions


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
