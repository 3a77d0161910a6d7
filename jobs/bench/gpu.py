"""What batchgen does on this GPU, with random weights of full size: no disk, no network, no Ray; in two parts.

Part 1 is one size of image: the ceiling (matrix products, cold and sustained), whether a row's bits depend on its
neighbours (promise P2) and are those of diffusers (P3), seconds an image beside eager `pipe()` in turns, where the time
goes by kernel, and compiled blocks: their seconds, their distance from eager, whether another process that compiles
anew finds the same bits, and `pipe()` compiled as well. Part 2 is the rest: fp8, FlashAttention 3, reused steps, what
determinism costs, single operations, other sizes and batches, the share of time that a GPU works, memory by setting.

What needs compiling runs in processes of its own. A section that fails is named and does not end the run; one that
does not fit into what is left of the minutes, by estimates for an H100, is left out and named. Exit code 1: bits
differ, or a section failed.

    python jobs/bench/gpu.py --part 1 [--minutes 8] [--steps 40] [--sides 1024 512 768 1440] [--out FILE] [--only NAME]
    python jobs/bench/gpu.py --part 2 --size tiny --device cpu --sides 64 --steps 2      # all of it on a CPU, in small

Needs torch, transformers, diffusers, accelerate and pydantic, and batchgen on PYTHONPATH; what else is missing leaves
sections out. All values are in --out, which is whole after each section. The last line is a summary, JSON.

    ceiling    TFLOP/s of a square product, cold and after seconds; copy_gb_per_s counts bytes read and written
    alike      by side: are rows bit-identical again, in another order, among other rows; are latents those of pipe()
    speed      by side; both end with uint8 pixels on the host. tflop_per_image counts the matrix products of denoising
               and decoding, not those of the text encoders; tflop_per_s is of the seconds of these two
    profile    kernels of one step and of one decode: shares of the time by class, and the largest
    attention  TFLOP/s by kernel in the shapes of a batch. attention_denoising: the whole batch under each kernel
    experiment max_difference is that of latents from eager ones; under `reuse` from those without reuse. compiled
               again: another process with an empty cache, same_latents: bit by bit. chosen by timing: Inductor and
               cuDNN without determinism. pipe compiled: each block, texts being encoded before
    memory     by setting (`model`), by side and batch: the most bytes that tensors took, weights included, in all and
               in each stage; null without a GPU. `predicted`: what `batchgen plan` says, less what it assumes of CUDA
    context_bytes      that CUDA and its libraries took at the end, beside tensors
    failed, left_out   sections, and why
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()  # imports take a good part of the minutes

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library reads it: nothing here may ask the network

from batchgen.engines.environment import prepare_for_torch  # noqa: E402
from batchgen.engines.quiet import quieten  # noqa: E402

prepare_for_torch()  # before torch, as the next
quieten()

import torch  # noqa: E402
from on_gpu.model_in_hand import Model  # noqa: E402
from on_gpu.random_model import PRESET_OF, preset_of  # noqa: E402
from on_gpu.result import Result  # noqa: E402
from on_gpu.sections import parts  # noqa: E402
from on_gpu.speed import context  # noqa: E402
from on_gpu.stopwatch import Stopwatch  # noqa: E402
from on_gpu.summary import bits_differ, summary  # noqa: E402

from batchgen.engines.device import device_name  # noqa: E402
from batchgen.engines.libraries import versions  # noqa: E402

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    arguments = parse()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("skipped: there is no GPU here. To try all of it on a CPU: --size tiny --device cpu --sides 64 --steps 2")
        return 0
    device = torch.device(arguments.device)
    watch = Stopwatch(device, BEGAN + 60 * arguments.minutes, BEGAN)
    result = Result(arguments.out or RESULTS / f"gpu_{arguments.part}.json", watch, facts(arguments, device))
    model = Model(arguments.size, arguments.steps, watch)
    with tempfile.TemporaryDirectory() as folder:
        for section in parts(arguments.part, model, arguments.sides, result.values, Path(folder)):
            if not arguments.only or section.name in arguments.only:
                # The estimates are of full size. What a CPU does in small begins as long as there is time.
                result.take(section, section.seconds if arguments.size == "medium" else 0.0)
    return finish(result, model, arguments.sides[0])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=(1, 2), default=1)
    parser.add_argument("--size", choices=sorted(PRESET_OF), default="medium")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sides", type=int, nargs="+", default=[1024, 512, 768, 1440], help="the usual one first")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=8.0, help="from the start; what does not fit is left out")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these sections, as after a run that was cut off")
    parser.add_argument("--out", type=Path, help="or else gpu_1.json or gpu_2.json in jobs/bench/results")
    return parser.parse_args()


def facts(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    preset = preset_of(arguments.size)
    return {
        "part": arguments.part,
        "device": device_name(device),
        "device_bytes": torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
        "versions": versions(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "preset": PRESET_OF[arguments.size],
        "dtype": preset.dtype,
        "num_inference_steps": arguments.steps,
        "max_sequence_length": preset.max_sequence_length,
        "imports_s": round(time.perf_counter() - BEGAN, 1),
    }


def commit() -> str | None:
    """Of the working tree, if it is one of git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def finish(result: Result, model: Model, side: int) -> int:
    result.values["context_bytes"] = context(result.watch)
    result.values["summary"] = summary(result.values, side, model.tflop_per_image(side))
    result.values["seconds"] = round(result.watch.elapsed, 1)
    result.write()
    said = {
        name: result.everything.get(name) for name in ("device", "part", "summary", "seconds", "failed", "left_out")
    }
    differing = bits_differ(result.values)
    print(json.dumps(said | {"bits_differ": differing}))
    return 1 if result.failed or differing else 0


if __name__ == "__main__":
    sys.exit(main())
