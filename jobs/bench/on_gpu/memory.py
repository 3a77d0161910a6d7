"""The most bytes that tensors take under each setting that saves memory, beside what `batchgen plan` predicts.

Knows nothing of seconds.
"""

from __future__ import annotations

from typing import Any

from on_gpu.model_in_hand import Model, rounded

from batchgen.cost.footprint import CONTEXT, Predictor, shapes_of
from batchgen.errors import Refused

STEPS = 2  # all steps take the same memory
# What a job file says of its `model:` to need less memory. First what fits cards of 8 GB, and what that is compared to.
SETTINGS: dict[str, dict[str, Any]] = {
    "all resident": {},
    "text encoders parked, transformer in NF4": {
        "offload": "encoders",
        "quantization": {"transformer": "bitsandbytes_4bit"},
    },
    "group offload": {"offload": "group"},
    "model offload": {"offload": "model"},
    "text encoders parked": {"offload": "encoders"},
    "no T5": {"text_encoder_3": None},
    "transformer in float8": {"quantization": {"transformer": "float8"}},
    "VAE tiling": {"vae_tiling": True},
    "transformer in NF4": {"quantization": {"transformer": "bitsandbytes_4bit"}},
    "T5 in NF4": {"quantization": {"text_encoder_3": "bitsandbytes_4bit"}},
    "T5 in int8": {"quantization": {"text_encoder_3": "bitsandbytes_8bit"}},
    "transformer in torchao int8": {"quantization": {"transformer": "torchao_int8"}},
    "transformer in torchao float8": {"quantization": {"transformer": "torchao_float8"}},
}


def memory(model: Model, settings: dict[str, Any], side: int) -> dict[str, Any]:
    """Peaks of each stage, for one image and for the preset's batch: '1024 x 4'."""
    try:
        model.use(settings)
    except Refused as refusal:
        return {"left_out": str(refusal)}
    counts = dict.fromkeys((1, model.batch_size(side)))
    return {"model": settings} | {f"{side} x {count}": _stages(model, side, count) for count in counts}


def _stages(model: Model, side: int, count: int) -> dict[str, Any]:
    renderer, watch = model.renderer, model.watch
    rows = model.rows(side, count, steps=STEPS)
    for _ in range(2):  # the first round brings kernels and workspaces, the second is the one that counts
        began = watch.elapsed
        encoding, embeds = watch.peak(lambda: model.encode_anew(rows))
        denoising, latents = watch.peak(lambda embeds=embeds: renderer.denoise(rows, embeds))
        decoding, pixels = watch.peak(lambda latents=latents: renderer.decode(latents, range(count)))
    if any(one is None for one in pixels):
        raise ValueError("the pictures are not finite")
    peaks = {"encode": encoding, "denoise": denoising, "decode": decoding}
    known = [peak for peak in peaks.values() if peak is not None]
    return {
        "peak_bytes": max(known, default=None),
        **peaks,
        "predicted": predicted(model, side, count),
        "seconds": rounded(watch.elapsed - began),
    }


def predicted(model: Model, side: int, count: int) -> dict[str, int]:
    """What `batchgen plan` says of each stage, without the part that is no tensor's. One text a row and a negative."""
    spec = model.renderer.spec
    footprint = Predictor(spec.model, shapes_of(spec.model)).predict(model.bucket(side), count, texts=count + 1)
    stages = {"encode": footprint.encoding, "denoise": footprint.denoising, "decode": footprint.decoding}
    return {name: size - CONTEXT for name, size in stages.items()}
