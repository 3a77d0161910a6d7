"""One experiment in a process of its own: after an error of the device no later call of a process can be believed.

Takes its order as JSON and says what it found in one line of JSON, the last. What it renders, a batch that was rendered
eagerly before, lies in a file. Started by `experiments`.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
sys.path[:0] = [str(Path(__file__).parents[up]) for up in (1, 3)]  # jobs/bench, and the batchgen beside it
os.environ["HF_HUB_OFFLINE"] = "1"

from batchgen.engines.environment import prepare_for_torch  # noqa: E402
from batchgen.engines.quiet import quieten  # noqa: E402

prepare_for_torch()  # before torch, as the next
quieten()

import torch  # noqa: E402
from on_gpu.model_in_hand import NO_T5, Model, Reference, rounded  # noqa: E402
from on_gpu.operations import vae  # noqa: E402
from on_gpu.reused import reusing  # noqa: E402
from on_gpu.rows_alike import STEPS, by_pipe, embedded_alike, max_difference  # noqa: E402
from on_gpu.speed import as_bytes  # noqa: E402
from on_gpu.stopwatch import Stopwatch  # noqa: E402

from batchgen.engines.sd3.kernels import compile_blocks  # noqa: E402
from batchgen.errors import Refused  # noqa: E402


@dataclass(frozen=True)
class Order:
    """kind: denoise (ours), pipe (diffusers with compiled blocks) or vae. settings: of `model:` in a job file.

    schedules: `sampling.reuse` by name. deterministic: as the product compiles; else as torch does by itself.
    """

    kind: str
    size: str
    device: str
    side: int
    batch: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    deterministic: bool = True
    alike: bool = False
    repeats: int = 2


def main() -> int:
    order = Order(**json.loads(sys.argv[1]))
    watch = Stopwatch(torch.device(order.device), deadline=float("inf"))
    model = Model(order.size, 0, watch)
    try:
        if order.kind == "vae":
            found = vae(watch, order.size, model.dtype, order.side)
        else:
            reference = Reference.load(Path(order.batch), order.device)
            found = (denoise if order.kind == "denoise" else pipe)(order, model, reference)
    except Refused as refusal:
        found = {"left_out": str(refusal)}
    print(json.dumps(found | {"process_s": rounded(time.perf_counter() - BEGAN)}))
    return 0


def denoise(order: Order, model: Model, reference: Reference) -> dict[str, Any]:
    """The batch under these settings: seconds, how far latents are from eager ones, whether rows are alike."""
    renderer, watch, rows = model.use(NO_T5 | order.settings), model.watch, reference.rows
    if not order.deterministic:
        torch._inductor.config.deterministic = False
        torch.backends.cudnn.deterministic = False
    first = watch.seconds(
        lambda: renderer.denoise([replace(row, num_inference_steps=1) for row in rows], reference.embeds)
    )
    seconds, latents = _times(watch, lambda: renderer.denoise(rows, reference.embeds), order.repeats)
    decoding = watch.median(lambda: renderer.decode(latents, range(len(rows))), 1)
    found: dict[str, Any] = {
        "attention": renderer.kernels.attention.name,
        "denoise_s_per_image": rounded(seconds / len(rows)),
        "decode_s_per_image": rounded(decoding / len(rows)),
        "first_step_s": rounded(first),
        "compile_s": renderer.compile_seconds and rounded(renderer.compile_seconds),
        "max_difference": max_difference(latents, reference.latents),
        "sha256": hashlib.sha256(latents.float().cpu().numpy().tobytes()).hexdigest(),
    }
    if order.alike:
        found["rows"] = _alike(renderer, reference)
    for name, reuse in order.schedules.items():
        found.setdefault("reuse", {})[name] = reusing(model, reference, reuse, latents)
    return found


def _alike(renderer: Any, reference: Reference) -> dict[str, bool]:
    rows = [replace(row, num_inference_steps=STEPS) for row in reference.rows]
    strangers = [replace(row, seed=row.seed + 500) for row in rows[::-1]]
    return embedded_alike(renderer, rows, reference.embeds, strangers, reference.embeds[::-1])


def pipe(order: Order, model: Model, reference: Reference) -> dict[str, Any]:
    """diffusers' pipeline with its transformer's blocks compiled as torch does by itself; texts are encoded already."""
    model.use(NO_T5)
    compile_blocks(model.pipe.transformer)
    rows = reference.rows
    warm = [replace(row, num_inference_steps=1) for row in rows]
    first = model.watch.seconds(lambda: by_pipe(model.pipe, warm, reference.embeds, "pt"))
    seconds, _ = _times(model.watch, lambda: as_bytes(by_pipe(model.pipe, rows, reference.embeds, "pt")), order.repeats)
    return {"pipe_s_per_image_without_encoding": rounded(seconds / len(rows)), "first_step_s": rounded(first)}


def _times(watch: Stopwatch, work: Any, repeats: int) -> tuple[float, Any]:
    """The median, and the last result."""
    runs = [watch.timed(work) for _ in range(repeats)]
    return statistics.median(seconds for seconds, _ in runs), runs[-1][1]


if __name__ == "__main__":
    sys.exit(main())
