"""The two parts of the measurement as lists of sections, what is wanted most first.

Part 1 is one size of image, eager and compiled, beside diffusers. Part 2 is all else: less exact arithmetic, single
operations, other sizes, memory. Each fits its eight minutes by the estimates here, which nobody has measured yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from on_gpu import attention_kernels, ceiling, operations
from on_gpu.busy import busy
from on_gpu.experiments import Laboratory
from on_gpu.kernel_times import profiled
from on_gpu.memory import SETTINGS, memory
from on_gpu.model_in_hand import Model, rounded
from on_gpu.result import Section
from on_gpu.reused import BLOCKS, reused
from on_gpu.speed import alike, encode, speed, sweep

COMPILED = {"kernels": "compiled"}
SPEED_SECONDS = 50.0  # that the repeats of the usual size may take
SHORT = 4  # steps, where only a ratio is wanted
COUNTS = {512: (8, 16, 32), 1024: (1, 2, 4, 8)}  # of batches at these sizes; at others the preset's and its double


def parts(part: int, model: Model, sides: list[int], values: dict[str, Any], folder: Path) -> list[Section]:
    """sides: the first is the usual one. values: what was found so far. folder: for experiments."""
    laboratory = Laboratory(model, sides[0], folder)
    return [*_first(model, sides[0], laboratory, values)] if part == 1 else [*_second(model, sides, laboratory, values)]


def _first(model: Model, side: int, laboratory: Laboratory, values: dict[str, Any]) -> Iterator[Section]:
    watch, size, dtype, compiled = model.watch, model.size, model.dtype, partial(laboratory.run, settings=COMPILED)
    cudnn = COMPILED | {"attention": "cudnn"}
    yield Section("ceiling", 7, lambda: ceiling.ceiling(watch, size, dtype))
    yield Section("build", 20, lambda: _build(model))
    yield Section("encode", 4, lambda: encode(model))
    yield Section("alike", 15, lambda: alike(model, side), str(side))
    yield Section("speed", 50, lambda: _speed(model, side, model.steps, SPEED_SECONDS, values), str(side))
    yield Section("ceiling_after", 4, lambda: ceiling.sustained(watch, size, dtype))
    yield Section("profile", 8, lambda: profiled(model, side))
    yield Section("attention", 3, lambda: attention_kernels.alone(model, side))
    yield Section("experiment", 90, lambda: compiled("compiled", alike=True), "compiled")
    yield Section("experiment", 75, lambda: laboratory.run("compiled cudnn", settings=cudnn), "compiled cudnn")
    yield Section("experiment", 75, lambda: laboratory.run("pipe compiled", "pipe"), "pipe compiled")
    again = partial(laboratory.like, "again", "compiled", settings=COMPILED, repeats=1)
    yield Section("experiment", 70, again, "compiled again")
    yield Section("attention_denoising", 26, lambda: attention_kernels.denoising(model, side))
    yield Section("products", 2, lambda: _products(model, side))


def _second(model: Model, sides: list[int], laboratory: Laboratory, values: dict[str, Any]) -> Iterator[Section]:
    watch, side, others = model.watch, sides[0], sides[1:] or sides
    steps, half = min(SHORT, model.steps), max(1, model.steps // 2)  # steps cost alike
    fp8, once = {"kernels": "compiled_fp8", "dtype": "bfloat16"}, {"schedules": BLOCKS, "repeats": 1}
    yield Section("ceiling", 7, lambda: ceiling.ceiling(watch, model.size, model.dtype))
    yield Section("build", 20, lambda: _build(model))
    yield Section("encode", 4, lambda: encode(model))
    yield Section("eager", 14, lambda: _eager(model, side, values))
    yield Section("experiment", 80, lambda: laboratory.run("compiled", settings=COMPILED, **once), "compiled")
    yield Section("experiment", 80, lambda: laboratory.run("fp8", settings=fp8, alike=True, **once), "compiled_fp8")
    yield Section("experiment", 70, lambda: laboratory.flash_3(**once), "flash_3")
    yield Section("reuse", 22, lambda: reused(model, side))
    free = {"settings": COMPILED, "deterministic": False, "fresh": True, "repeats": 1}
    yield Section("experiment", 60, lambda: laboratory.run("chosen by timing", **free), "chosen by timing")
    yield Section("vae", 20, lambda: laboratory.run("vae", "vae"))
    yield Section("norms", 2, lambda: operations.norms(model, side))
    yield Section("gelu", 2, lambda: operations.gelu(model, side))
    for one in others:
        yield Section("speed", 14, partial(_speed, model, one, half, 0.0, values), str(one))
        yield Section("alike", 9, partial(alike, model, one), str(one))
    for one in dict.fromkeys((others[0], side)):
        counts = COUNTS.get(one, (model.batch_size(one), 2 * model.batch_size(one)))
        yield Section("sweep", 9, partial(sweep, model, one, counts, steps), str(one))
    yield Section("busy", 18, lambda: busy(model, side, steps))
    for name, settings in SETTINGS.items():
        yield Section("memory", 8, partial(memory, model, settings, side), name)


def _build(model: Model) -> dict[str, Any]:
    seconds = model.watch.seconds(lambda: model.use({}))
    return {"seconds": rounded(seconds), "weights_bytes": model.weights()}


def _products(model: Model, side: int) -> dict[str, Any]:
    reference = model.reference(side)
    text = reference.embeds[0].positive.text.shape[0]
    return ceiling.products(model.watch, model.size, model.dtype, side, 2 * len(reference.rows), text)


def _eager(model: Model, side: int, values: dict[str, Any]) -> dict[str, Any]:
    """The batch that experiments are compared with."""
    reference = model.reference(side)
    count = len(reference.rows)
    decoding = model.watch.median(lambda: model.renderer.decode(reference.latents, range(count)), 1)
    found = {
        "encode_s_per_image": values["encode"]["seconds_per_text"],
        "denoise_s_per_image": reference.denoise_s / count,
        "decode_s_per_image": decoding / count,
    }
    return {name: rounded(seconds) for name, seconds in {"seconds_per_image": sum(found.values()), **found}.items()}


def _speed(model: Model, side: int, steps: int, seconds: float, values: dict[str, Any]) -> dict[str, Any]:
    """As a share of the ceilings that an earlier section has found."""
    known = values.get("ceiling", {})
    names = {"share_of_ceiling": "tflop_per_s", "share_of_ceiling_sustained": "sustained_tflop_per_s"}
    return speed(model, side, steps, seconds, {share: known[name] for share, name in names.items() if name in known})
