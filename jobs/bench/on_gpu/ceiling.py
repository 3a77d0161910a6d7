"""What the device can do at best: matrix products, cold and for seconds on end, products of the model's shapes, copies.

A cold GPU runs at its highest clock; after a second or two its power limit decides. A share of what it can do is said
of the sustained figure. Knows the widths of a transformer, and nothing of what is rendered.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
from on_gpu.model_in_hand import rounded
from on_gpu.random_model import config_of
from on_gpu.stopwatch import Stopwatch

SQUARE = {"medium": 8192, "tiny": 512}
SUSTAINED_S = {"medium": 3.0, "tiny": 0.3}
COPIED_BYTES = {"medium": 1 << 30, "tiny": 1 << 24}
NVIDIA_SMI = "clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"


def ceiling(watch: Stopwatch, size: str, dtype: torch.dtype) -> dict[str, Any]:
    side = SQUARE[size]
    left, right = _random(watch, dtype, (side, side), (side, side))
    flop = 2 * side**3
    cold = flop / watch.median(lambda: left @ right, repeats=30, warm_ups=10) / 1e12
    source, target = (torch.empty(COPIED_BYTES[size], dtype=torch.uint8, device=watch.device) for _ in range(2))
    copying = watch.median(lambda: target.copy_(source), repeats=10)
    return {
        "side": side,
        "tflop_per_s": rounded(cold),
        **sustained(watch, size, dtype),
        "copy_gb_per_s": rounded(2 * COPIED_BYTES[size] / copying / 1e9),  # read and written
    }


def sustained(watch: Stopwatch, size: str, dtype: torch.dtype) -> dict[str, Any]:
    """The square product again and again; clocks and power while it runs. Zeros would be faster than random numbers."""
    side = SQUARE[size]
    left, right = _random(watch, dtype, (side, side), (side, side))
    rate, seen = _for_seconds(watch, SUSTAINED_S[size], lambda: left @ right)
    return {"sustained_tflop_per_s": rounded(2 * side**3 * rate / 1e12), "nvidia_smi": seen}


def products(watch: Stopwatch, size: str, dtype: torch.dtype, side: int, rows: int, text: int) -> dict[str, Any]:
    """TFLOP/s of the five linear layers that most of the work is: (tokens, in, out). rows: of a guided batch."""
    config = config_of(size, "transformer")
    width = config["num_attention_heads"] * config["attention_head_dim"]
    image = rows * image_tokens(side, config)
    shapes = {
        "image, attention": (image, width, width),
        "image, feed-forward up": (image, width, 4 * width),
        "image, feed-forward down": (image, 4 * width, width),
        "text, attention": (rows * text, width, width),
        "text, feed-forward up": (rows * text, width, 4 * width),
    }
    return {name: _linear(watch, dtype, *shape) for name, shape in shapes.items()}


def image_tokens(side: int, config: dict[str, Any]) -> int:
    return int(
        (side // 8 // config["patch_size"]) ** 2
    )  # 8 pixels a latent: four blocks of the VAE, three of which halve


def _linear(watch: Stopwatch, dtype: torch.dtype, tokens: int, wide: int, out: int) -> dict[str, Any]:
    states, weight, bias = _random(watch, dtype, (tokens, wide), (out, wide), (out,))
    seconds = watch.median(lambda: torch.nn.functional.linear(states, weight, bias), repeats=10, warm_ups=3)
    return {"shape": [tokens, wide, out], "tflop_per_s": rounded(2 * tokens * wide * out / seconds / 1e12)}


def _random(watch: Stopwatch, dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.randn(shape, device=watch.device, dtype=dtype) for shape in shapes]


def _for_seconds(watch: Stopwatch, seconds: float, work: Callable[[], Any]) -> tuple[float, dict[str, str] | None]:
    """How often a second, of the second half of the time; and what nvidia-smi says in the middle."""
    smi, counted, half = None, 0, time.perf_counter() + seconds / 2
    counting = False
    began = time.perf_counter()
    while True:
        for _ in range(10):
            work()
        watch.wait()
        now = time.perf_counter()
        if counting:
            counted += 10
            if now - began >= seconds / 2:
                return counted / (now - began), _said(smi)
        elif now >= half:
            counting, began = True, now
            smi = _ask(watch)


def _ask(watch: Stopwatch) -> subprocess.Popen[str] | None:
    if watch.device.type != "cuda" or shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={NVIDIA_SMI}", "--format=csv,noheader"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _said(smi: subprocess.Popen[str] | None) -> dict[str, str] | None:
    if smi is None:
        return None
    try:
        said, _ = smi.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        smi.kill()
        return None
    first = said.splitlines()[0] if said else ""
    return dict(zip(NVIDIA_SMI.split(","), (value.strip() for value in first.split(",")), strict=False)) or None
