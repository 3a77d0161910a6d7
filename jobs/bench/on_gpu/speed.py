"""Seconds an image, ours and diffusers' pipeline in turns, eager; encoding; and whether the bits are right.

Knows nothing of compiled kernels (`experiments`) and of memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from on_gpu.model_in_hand import Model, Reference, rounded
from on_gpu.rows_alike import alone_difference, batch_alike, generators, like_pipeline, texts_alike
from on_gpu.stopwatch import Stopwatch

from batchgen.engines.protocol import ENCODE_BATCH, ImageRow

REPEATS = 3


def encode(model: Model) -> dict[str, Any]:
    """Full batches of new texts through the three encoders."""
    renderer = model.use({})
    rows = model.rows(512, ENCODE_BATCH - 1)  # and their negative prompt
    seconds = model.watch.median(lambda: model.encode_anew(rows), repeats=5)
    return {
        "batch_size": ENCODE_BATCH,
        "seconds_per_text": rounded(seconds / ENCODE_BATCH),
        "alike": texts_alike(renderer, model.tokens),
    }


def alike(model: Model, side: int) -> dict[str, Any]:
    """Bits of the preset's batch at this size: ours against ours (promise P2), ours against pipe() (promise P3)."""
    renderer, count = model.use({}), model.batch_size(side)
    return {
        "batch_size": count,
        "rows": batch_alike(renderer, side, count, model.tokens),
        "alone_max_difference": alone_difference(renderer, side, count, model.tokens),
        "like_pipe": like_pipeline(renderer, model.pipe, side, count, model.tokens),
    }


def speed(model: Model, side: int, steps: int, seconds_at_most: float, ceiling: dict[str, float]) -> dict[str, Any]:
    """Both sides end with uint8 pixels in the memory of the host, neither with PIL images.

    Ours is the sum of its parts, since a shard encodes the texts of many batches at once: new prompts in full encoder
    batches, the negative prompt once for all. The peaks are those of the warm-up. ceiling: by kind, TFLOP/s.
    """
    watch, renderer, count = model.watch, model.use({}), model.batch_size(side)
    warm = model.rows(side, count, steps=2)
    pipe_peak, _ = watch.peak(lambda: pixels_of_pipe(model.pipe, warm))
    peak, _ = watch.peak(lambda: renderer.decode(renderer.denoise(warm, model.encode_anew(warm)), range(count)))
    encode_s = watch.median(lambda: model.encode_anew(model.rows(side, ENCODE_BATCH - 1)), 3) / ENCODE_BATCH
    times: dict[str, list[float]] = {"denoise": [], "decode": [], "pipe": []}
    began = watch.elapsed
    for repeat in range(REPEATS):
        rows = model.rows(side, count, steps, first=100 * repeat)
        _in_turns(model, rows, times)
        spent = watch.elapsed - began
        if spent * (repeat + 2) / (repeat + 1) > min(seconds_at_most, watch.left + spent):
            break
    parts = {
        "encode_s_per_image": encode_s,
        "denoise_s_per_image": statistics.median(times["denoise"]) / count,
        "decode_s_per_image": statistics.median(times["decode"]) / count,
    }
    ours, theirs = sum(parts.values()), statistics.median(times["pipe"]) / count
    tflop = model.tflop_per_image(side, steps)
    rate = tflop / (ours - encode_s)
    measured = {
        "seconds_per_image": ours,
        "pipe_seconds_per_image": theirs,
        "speedup": theirs / ours,
        **parts,
        "tflop_per_image": tflop,
        "tflop_per_s": rate,
        **{name: rate / best for name, best in ceiling.items()},
        "spread": max((max(seconds) - min(seconds)) / min(seconds) for seconds in (times["denoise"], times["pipe"])),
    }
    facts = {"batch_size": count, "num_inference_steps": steps, "repeats": len(times["pipe"])}
    return (
        facts
        | {name: rounded(value) for name, value in measured.items()}
        | {"peak_bytes": peak, "pipe_peak_bytes": pipe_peak}
    )


def _in_turns(model: Model, rows: list[ImageRow], times: dict[str, list[float]]) -> None:
    """One batch by us and one by pipe(). The first at all steps is what others are compared with."""
    watch, renderer = model.watch, model.renderer
    embeds = renderer.encode(rows)
    seconds, latents = watch.timed(lambda: renderer.denoise(rows, embeds))
    times["denoise"].append(seconds)
    times["decode"].append(watch.seconds(lambda: renderer.decode(latents, range(len(rows)))))
    times["pipe"].append(watch.seconds(lambda: pixels_of_pipe(model.pipe, rows)))
    if model.known is None and rows[0].num_inference_steps == model.steps:
        model.known = Reference(rows, embeds, latents, seconds)


def pixels_of_pipe(pipe: Any, rows: Sequence[ImageRow]) -> torch.Tensor:
    """The whole of pipe() as a person would call it, who wants pixels and no PIL images."""
    row = rows[0]
    images = pipe(
        prompt=[row.prompt for row in rows],
        negative_prompt=[row.negative_prompt for row in rows],
        height=row.height,
        width=row.width,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        max_sequence_length=row.max_sequence_length,
        generator=generators(rows),
        output_type="pt",
    ).images
    return as_bytes(images)


def as_bytes(images: torch.Tensor) -> torch.Tensor:
    """Numbers from 0 to 1 on the device → uint8 in the memory of the host, as ours end."""
    return (images * 255).round().to(torch.uint8).cpu()


def sweep(model: Model, side: int, counts: Sequence[int], steps: int) -> dict[str, Any]:
    """Seconds an image and step of batches of these sizes: where a larger one gains nothing any more."""
    renderer, watch, found = model.use({}), model.watch, dict[str, Any]()
    for count in counts:
        rows = model.rows(side, count, steps)
        embeds = renderer.encode(rows)
        try:
            seconds = watch.median(lambda rows=rows, embeds=embeds: renderer.denoise(rows, embeds), repeats=1)
        except RuntimeError as error:
            found[str(count)] = f"{type(error).__name__}: {str(error).strip()[:100]}"
            continue
        found[str(count)] = rounded(seconds / count / steps)
    return {"num_inference_steps": steps, "seconds_per_image_and_step": found}


def context(watch: Stopwatch) -> int | None:
    """Bytes of the GPU that are taken and are not torch's: CUDA and its libraries, if nobody else works here."""
    if watch.device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(watch.device)
    return total - free - torch.cuda.memory_reserved(watch.device)
