"""How the transformer computes: eagerly with diffusers' operations, or in blocks that torch.compile has fused.

Compiled kernels must not depend on what a renderer met before, on the moment or on the machine's load, or a row would
depend on more than itself and its batch size (promise P2). Hence: every shape is compiled for itself (the first of
dynamic shapes would choose kernels for the others), and nothing is chosen by timing. A compiler that fails is an error
of this machine; never is a block computed eagerly instead. Knows blocks and no rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._inductor.config
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from batchgen.engines.device import translate
from batchgen.engines.sd3.attention import NO_KERNEL, Attention, LeanProcessor
from batchgen.errors import Infrastructure, Refused
from batchgen.job import Model

SHAPES = 1 << 16  # that a process may compile; torch would stop at 8 graphs, which is two shapes
FP8_CAPABILITY = (8, 9)  # Ada and Hopper; torchao 0.18 asks for it in Float8DynamicActivationFloat8WeightConfig


class Kernels:
    """Of one transformer on its device. attention: the kernel of its attention.

    compile_seconds: what the first forward of each shape took; None where nothing is compiled.
    """

    def __init__(self, transformer: Any, model: Model, device: torch.device) -> None:
        """Raises Refused where this machine cannot compute so."""
        self.attention = Attention.of(model.attention, transformer, device)
        self._device = device
        self._seen: set[tuple[Any, ...]] = set()
        self.compile_seconds: float | None = None
        if model.kernels != "eager":
            self.compile_seconds = 0.0
            make_reproducible()
            transformer.set_attn_processor(LeanProcessor())
            compile_blocks(transformer)

    @contextmanager
    def at_work(self, *shape: Any) -> Iterator[None]:
        """Around a forward. shape: what its kernels are compiled for. Raises Infrastructure where they cannot be."""
        first = self.compile_seconds is not None and shape not in self._seen
        began = time.perf_counter()
        try:
            with self.attention.at_work():
                yield
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            raise _of_the_compiler(error) from None  # the frames of a compiler hold tensors
        except RuntimeError as error:
            if any(sign in str(error) for sign in NO_KERNEL):
                raise Infrastructure(
                    f"model.attention: {self.attention.name} cannot compute a batch of {shape}: {error}"
                ) from error
            raise
        if first and self.compile_seconds is not None:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self.compile_seconds += time.perf_counter() - began
            self._seen.add(shape)


def compile_blocks(transformer: Any) -> None:
    """Each kind of block is compiled once for each shape, when it comes. What lies around the blocks stays eager."""
    for block in transformer.transformer_blocks:
        block.compile(fullgraph=True, dynamic=False)


def make_reproducible() -> None:
    """Settings of this process, for compiled kernels and for convolutions, by which equal machines compute equally."""
    dynamo: Any = torch._dynamo.config
    inductor: Any = torch._inductor.config
    dynamo.recompile_limit = dynamo.accumulated_recompile_limit = SHAPES
    inductor.deterministic = True  # no configuration of a reduction, and no padding, is chosen by timing
    inductor.max_autotune = inductor.max_autotune_gemm = inductor.coordinate_descent_tuning = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def refuse_without_fp8(device: torch.device) -> None:
    """Raises Refused where the device has no products of fp8 numbers."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        raise Refused(
            f"model.kernels: compiled_fp8 needs a GPU of compute capability {FP8_CAPABILITY[0]}.{FP8_CAPABILITY[1]} or "
            f"newer (Ada, Hopper), and this renderer is on {name}. Write kernels: compiled, or render on such GPUs."
        )


def _of_the_compiler(error: Exception) -> Exception:
    """Memory may run out, and a device break, while kernels are compiled; all else is the compiler's own failure."""
    if isinstance(error, RuntimeError) and (known := translate(error)):
        return known
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Infrastructure(
        f"torch.compile failed on this machine ({type(error).__name__}: {' '.join(lines[:2])[:300]}). Compiled kernels "
        "need a C++ compiler, on GPUs also Triton, and room in TORCHINDUCTOR_CACHE_DIR. Mend that and run the same "
        "command again, or render into another directory with model.kernels: eager."
    )
