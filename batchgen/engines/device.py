"""The edge to the device: what torch raises there becomes one of ours, and no gradient is ever kept.

Knows torch's errors by type and, where torch has no type for them, by text. Knows no model.
"""

from __future__ import annotations

import functools
import resource
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from batchgen.errors import BatchgenError, OutOfMemory, RendererBroken

P = ParamSpec("P")
R = TypeVar("R")

# Memory errors that torch 2.6 to 2.13 does not raise as OutOfMemoryError: inside cuBLAS and cuDNN, and on a CPU.
NO_MEMORY = ("CUDA error: out of memory", "STATUS_ALLOC_FAILED", "DefaultCPUAllocator: can't allocate memory")
# Errors after which every later call fails too. torch.AcceleratorError (2.8) says "CUDA error" as well.
STICKY = ("CUDA error", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR")


def pick_device() -> torch.device:
    """The GPU that Ray left visible to this process, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """Of a CPU, for what is computed from here on."""
    torch.set_num_threads(count)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def gpu_uuid(device: torch.device) -> str:
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else ""


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: that torch's tensors took on a GPU, or that this process took of a CPU's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # getrusage(2): bytes on macOS, kilobytes on Linux


def on_device(method: Callable[P, R]) -> Callable[P, R]:
    """Run under inference_mode, which is a setting of the thread, and translate device errors."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with torch.inference_mode():
                return method(*args, **kwargs)
        except RuntimeError as error:
            translated = translate(error)
            if translated is None:
                raise
        # Only here, with the error gone, are the tensors free that the failed frames held. So: no `from error`.
        if isinstance(translated, OutOfMemory):
            torch.cuda.empty_cache()  # a smaller batch needs blocks of other sizes
        raise translated

    return guarded


def translate(error: RuntimeError) -> BatchgenError | None:
    """OutOfMemory, RendererBroken, or None for an error that is not the device's."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in NO_MEMORY):
        return OutOfMemory(text)
    if any(sign in text for sign in STICKY) or type(error).__name__ == "AcceleratorError":
        return RendererBroken(text)
    return None
