"""Where the time of a forward and of a decode goes: the kernels that take most, and shares by class.

Knows kernels by their names, as PyTorch, cuBLAS, cuDNN and Triton give them; a name that none of the words is in is
`other`, and the list of the largest shows whether that matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from on_gpu.model_in_hand import Model, rounded
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

LARGEST = 12
NAME_LENGTH = 90
# The first that fits. Elementwise kernels carry the name of what they compute: copies and norms are told apart before.
CLASSES = {
    "attention": r"flash|fmha|attention|sdpa",
    "conv": r"conv|fprop|winograd",
    "matmul": r"gemm|gemv|nvjet|cutlass|cublas|splitkreduce|addmm|::mm$|::bmm|matmul|linear",
    # In eager diffusers the mean of squares and its root are kernels of their own, and only norms have such.
    "norm": r"norm|welford|rowwisemoments|rsqrt|reduce|mean",
    "copy": r"copy|memcpy|memset|catarray|::cat|nchwtonhwc|nhwctonchw|transpose|fill|clone|contiguous",
    "elementwise": r"elementwise|triton_|gelu|silu|::add|::mul|::sub|::div|::pow|upsample|clamp|round",
}


def class_of(kernel: str) -> str:
    return next((name for name, words in CLASSES.items() if re.search(words, kernel.lower())), "other")


def profiled(model: Model, side: int) -> dict[str, Any]:
    """One guided forward of the preset's batch, and the decoding of one image."""
    reference, renderer = model.reference(side), model.use({})
    rows = model.rows(side, len(reference.rows), steps=1)
    embeds = renderer.encode(rows)
    return {
        "attention": renderer.kernels.attention.name,
        "forward": _profile(model, lambda: renderer.denoise(rows, embeds)),
        "decode": _profile(model, lambda: renderer.decode(reference.latents, [0])),
    }


def _profile(model: Model, work: Callable[[], Any]) -> dict[str, Any]:
    on_gpu = model.watch.device.type == "cuda"
    work()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        work()
        model.watch.wait()
    return shares(list(_times(profiler, on_gpu)))


def _times(profiler: Any, on_gpu: bool) -> Any:
    """(name, calls, microseconds) of each kernel of the GPU, or of each operation of the CPU."""
    for event in profiler.key_averages():
        if not on_gpu:
            yield event.key, event.count, event.self_cpu_time_total
        elif event.device_type == DeviceType.CUDA:
            yield event.key, event.count, event.self_device_time_total


def shares(times: list[tuple[str, int, float]]) -> dict[str, Any]:
    total = sum(spent for _, _, spent in times)
    by_class = dict.fromkeys([*CLASSES, "other"], 0.0)
    for name, _, spent in times:
        by_class[class_of(name)] += spent
    largest = sorted(times, key=lambda one: -one[2])[:LARGEST]
    return {
        "milliseconds": rounded(total / 1e3),
        "kernels": sum(calls for _, calls, _ in times),
        "shares": {name: round(spent / total, 4) for name, spent in by_class.items()},
        "largest": [
            {"kernel": name[:NAME_LENGTH], "class": class_of(name), "calls": calls, "share": round(spent / total, 4)}
            for name, calls, spent in largest
        ],
    }
