"""What batchgen does on this GPU, with random weights of full size: no disk, no network, no Ray; at most ten minutes.

First the ceiling, a large matrix product in the dtype of the model; everything else is a share of it. Then for each
size of image: whether a row's bits depend on its neighbours (promise P2), whether latents are those of diffusers
(promise P3), and seconds an image, ours and eager `pipe()` in turns. Then the peak of memory under each setting, and
last, if time is left, what torch.compile of the transformer's blocks would bring. A section that fails is named in the
result and does not end the run; the result is written after each. Exit code 1: bits differ, or a section failed.

    python jobs/bench/gpu.py [--sides 512 768 1024 1440] [--steps 28] [--minutes 9] [--out FILE]
    python jobs/bench/gpu.py --size tiny --device cpu --sides 64 --steps 2      # everything, on a CPU, in a minute

Needs torch, transformers, diffusers and pydantic, and batchgen on PYTHONPATH. The last line is the result, JSON:

    ceiling    TFLOP/s of the matrix product
    alike      by side: are rows bit-identical again, in another order, among other rows; are latents those of pipe()
    speed      by side: tflop_per_image counts the matrix products of denoising and decoding, not those of the text
               encoders; tflop_per_s is of the seconds of these two
    memory     by setting (`model`), by side and batch: the most bytes that tensors took, weights included, in all and
               in each stage; null without a GPU. `predicted`: what `batchgen plan` says, less what it assumes of CUDA
    context_bytes      that CUDA and its libraries took at the end, beside tensors
    compiled   denoising in compiled blocks against eager
    failed, left_out   sections, and why
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library reads it: nothing here may ask the network

import torch
from measurements import SETTINGS, Bench, alike, ceiling, compiled, context, encode, memory, speed
from random_model import PRESET_OF, preset_of
from stopwatch import Stopwatch

from batchgen.engines.device import device_name
from batchgen.engines.libraries import DTYPES, versions
from batchgen.engines.quiet import quieten

RESULT = Path(__file__).parent / "results" / "gpu.json"
COMPILE_SECONDS = 100.0  # of a GPU's code for one shape, and of a few batches
PRODUCT_SIDE = {"medium": 8192, "tiny": 512}


def main() -> int:
    arguments = parse()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("skipped: there is no GPU here. To try all of it on a CPU: --size tiny --device cpu --sides 64 --steps 2")
        return 0
    quieten()
    device = torch.device(arguments.device)
    dtype = DTYPES[preset_of(arguments.size).dtype]
    watch = Stopwatch(device, time.perf_counter() + 60 * arguments.minutes)
    result = Result(arguments.out, watch, facts(arguments, device))
    result.section("ceiling", lambda: ceiling(watch, PRODUCT_SIDE[arguments.size], dtype))
    build_s, bench = watch.timed(lambda: Bench(arguments.size, arguments.steps, watch, dtype))
    result.values["build_s"] = round(build_s, 1)
    result.section("weights_bytes", bench.weights)
    result.section("encode", lambda: encode(bench))
    for side in arguments.sides:
        result.section("alike", lambda side=side: alike(bench, side), str(side))
    for side in arguments.sides:
        result.section("speed", lambda side=side: speed(bench, side, result.ceiling), str(side))
    for name, settings in SETTINGS.items():
        result.section("memory", lambda settings=settings: memory(bench, settings, arguments.sides), name)
    usual = preset_of(arguments.size).height
    side = usual if usual in arguments.sides else arguments.sides[0]
    result.section("compiled", lambda: compiled(bench, side), str(side), needs=COMPILE_SECONDS)
    result.values["context_bytes"] = context(watch)
    return result.finish()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(PRESET_OF), default="medium")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 768, 1024, 1440], help="of square images")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--minutes", type=float, default=9.0, help="what has not begun by then is left out")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


def facts(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    preset = preset_of(arguments.size)
    return {
        "device": device_name(device),
        "device_bytes": torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
        "versions": versions(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "preset": PRESET_OF[arguments.size],
        "dtype": preset.dtype,
        "num_inference_steps": arguments.steps,
        "max_sequence_length": preset.max_sequence_length,
    }


def commit() -> str | None:
    """Of the working tree, if it is one of git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@dataclass
class Result:
    """What was measured so far, on the screen and in a file that is whole after every section."""

    path: Path
    watch: Stopwatch
    values: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def ceiling(self) -> float:
        """TFLOP/s; not a number where the section failed."""
        return float(self.values.get("ceiling", {}).get("tflop_per_s", float("nan")))

    def section(self, name: str, measure: Callable[[], dict[str, Any]], part: str = "", needs: float = 0.0) -> None:
        """measure() may say {'left_out': why}, or raise: then the run goes on without. needs: seconds, about."""
        title = f"{name} {part}".strip()
        if self.watch.left <= needs:
            self.left_out[title] = "no time left"
            return
        try:
            found = measure()
        except Exception as error:  # noqa: BLE001 - one result less is better than none
            traceback.print_exc()
            self.failed[title] = f"{type(error).__name__}: {str(error).strip()[:300]}"
            found = {}
        if "left_out" in found:
            self.left_out[title] = found["left_out"]
        elif found and part:
            self.values.setdefault(name, {})[part] = found
        elif found:
            self.values[name] = found
        if self.watch.device.type == "cuda":
            torch.cuda.empty_cache()  # here, with the error gone that held what the failed section had
        verdict = self.failed.get(title) or self.left_out.get(title) or json.dumps(found)
        print(f"{self.watch.elapsed:5.0f} s  {title}: {verdict}", flush=True)
        self.write()

    def write(self) -> None:
        everything = self.values | {"failed": self.failed, "left_out": self.left_out}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(everything, indent=1) + "\n")

    def finish(self) -> int:
        self.values["seconds"] = round(self.watch.elapsed, 1)
        self.write()
        print(json.dumps(self.values | {"failed": self.failed, "left_out": self.left_out}))
        answers = [self.values.get("encode", {}).get("alike")]
        answers += [answer for found in self.values.get("alike", {}).values() for answer in found["rows"].values()]
        return 1 if self.failed or any(answer is False for answer in answers) else 0


if __name__ == "__main__":
    sys.exit(main())
