"""The sections of gpu.py: each measures one thing of one checkpoint on one device and returns it as a dict for JSON.

Seconds are medians, the device waited for on both sides. Knows nothing of files, of the order of sections or of what
happens to one that fails.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from random_model import PRESET_OF, WEIGHTS, build_pipeline, bytes_of, preset_of
from rows_alike import GUIDANCE, alone_difference, batch_alike, generators, like_pipeline, make_rows, texts_alike
from stopwatch import Stopwatch

from batchgen.cost.footprint import CONTEXT, Predictor, shapes_of
from batchgen.engines.protocol import ENCODE_BATCH, ImageRow
from batchgen.engines.sd3.quantize import quantize
from batchgen.engines.sd3.renderer import SD3Renderer
from batchgen.errors import Refused
from batchgen.job import Job
from batchgen.rows.buckets import Bucket, batch_size, image_tflop
from batchgen.weights.quantization import refuse_unusable
from batchgen.weights.spec import ModelSpec

REPEATS = 3
SPEED_SECONDS = 60.0  # that the repeats of one size may take: four sizes, and there are ten minutes for all
MEMORY_STEPS = 2  # all steps take the same memory
# What a job file says of its `model:` to need less memory.
SETTINGS: dict[str, dict[str, Any]] = {
    "all resident": {},
    "text encoders parked": {"offload": "encoders"},
    "model offload": {"offload": "model"},
    "group offload": {"offload": "group"},
    "no T5": {"text_encoder_3": None},
    "VAE tiling": {"vae_tiling": True},
    "transformer in float8": {"quantization": {"transformer": "float8"}},
    "transformer in NF4": {"quantization": {"transformer": "bitsandbytes_4bit"}},
    "transformer in torchao int8": {"quantization": {"transformer": "torchao_int8"}},
    "transformer in torchao float8": {"quantization": {"transformer": "torchao_float8"}},
    "T5 in int8": {"quantization": {"text_encoder_3": "bitsandbytes_8bit"}},
    "T5 in NF4": {"quantization": {"text_encoder_3": "bitsandbytes_4bit"}},
    "text encoders parked, transformer in NF4": {
        "offload": "encoders",
        "quantization": {"transformer": "bitsandbytes_4bit"},
    },
}
NEGATIVE = "blurry, low quality"


@dataclass
class Bench:
    """A pipeline of random weights, and batchgen's renderer of it. settings: of `model:` in a job file."""

    size: str
    steps: int
    watch: Stopwatch
    dtype: torch.dtype
    settings: dict[str, Any] | None = None
    pipe: Any = None
    renderer: SD3Renderer | None = None

    def __post_init__(self) -> None:
        self.use({})

    def use(self, settings: dict[str, Any]) -> None:
        """Build everything anew as this job would load it. Raises Refused where a package is missing."""
        if settings == self.settings:
            return
        spec = spec_of(self.size, settings)
        refuse_unusable(spec.model)
        self.pipe = self.renderer = self.settings = None
        gc.collect()  # hooks know their modules
        t5 = spec.model.text_encoder_3 is not None
        self.pipe = build_pipeline(self.size, self.watch.device, self.dtype, t5=t5)
        for part, kind in spec.model.quantization.model_dump(exclude_none=True).items():
            quantize(getattr(self.pipe, part), kind, self.dtype, self.watch.device)
        self.renderer, self.settings = SD3Renderer(self.pipe, spec), settings

    @property
    def tokens(self) -> int:
        """The T5 length."""
        return preset_of(self.size).max_sequence_length

    def batch_size(self, side: int) -> int:
        """That of the preset's table."""
        return batch_size(preset_of(self.size), side, side, 1 << 20)

    def rows(self, side: int, count: int, steps: int | None = None, first: int = 0) -> list[ImageRow]:
        return make_rows(side, count, steps or self.steps, self.tokens, first=first, negative=NEGATIVE)

    def bucket(self, side: int) -> Bucket:
        return Bucket.of(
            self.renderer.spec.sampling,
            height=side,
            width=side,
            num_inference_steps=self.steps,
            guidance_scale=GUIDANCE,
            skip_layer_guidance_scale=0.0,
            max_sequence_length=self.tokens,
        )

    def tflop_per_image(self, side: int) -> float:
        return image_tflop(preset_of(self.size), self.bucket(side))

    def weights(self) -> dict[str, Any]:
        return {part: bytes_of(getattr(self.pipe, part)) for part in WEIGHTS}

    def encode_anew(self, rows: Sequence[ImageRow]) -> Any:
        self.renderer.prompts.cache.clear()
        self.renderer.prompts.cached_bytes = 0
        return self.renderer.encode(rows)


def spec_of(size: str, settings: dict[str, Any]) -> ModelSpec:
    model = {"preset": PRESET_OF[size]} | settings
    job = Job.model_validate({"input": {"path": "-"}, "output": {"path": "-"}, "model": model})
    return ModelSpec(path="random", revision=None, digest="random", model=job.model, sampling=job.sampling)


def context(watch: Stopwatch) -> int | None:
    """Bytes of the GPU that are taken and are not torch's: CUDA and its libraries, if nobody else works here."""
    if watch.device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(watch.device)
    return total - free - torch.cuda.memory_reserved(watch.device)


def ceiling(watch: Stopwatch, side: int, dtype: torch.dtype) -> dict[str, Any]:
    return {"side": side, "tflop_per_s": _rounded(watch.matrix_product(side, dtype))}


def encode(bench: Bench) -> dict[str, Any]:
    """Full batches of new texts through the three encoders."""
    rows = bench.rows(512, ENCODE_BATCH - 1)  # and their negative prompt
    seconds = bench.watch.median(lambda: bench.encode_anew(rows), repeats=5)
    return {
        "batch_size": ENCODE_BATCH,
        "seconds_per_text": _rounded(seconds / ENCODE_BATCH),
        "alike": texts_alike(bench.renderer, bench.tokens),
    }


def alike(bench: Bench, side: int) -> dict[str, Any]:
    """Bits of the preset's batch at this size: ours against ours (promise P2), ours against pipe() (promise P3)."""
    count = bench.batch_size(side)
    return {
        "batch_size": count,
        "rows": batch_alike(bench.renderer, side, count, bench.tokens),
        "alone_max_difference": alone_difference(bench.renderer, side, count, bench.tokens),
        "like_pipe": like_pipeline(bench.renderer, bench.pipe, side, count, bench.tokens),
    }


def speed(bench: Bench, side: int, ceiling_tflop_per_s: float) -> dict[str, Any]:
    """Seconds an image, in turns with the whole of pipe(): encoding, denoising, decoding, PIL images.

    Ours is the sum of its parts, since a shard encodes the texts of many batches at once: new prompts in full encoder
    batches, the negative prompt once for all. The peaks are those of the warm-up.
    """
    watch, renderer, count = bench.watch, bench.renderer, bench.batch_size(side)
    warm = bench.rows(side, count, steps=2)
    pipe_peak, _ = watch.peak(lambda: _pipe_call(bench, warm))
    peak, _ = watch.peak(lambda: renderer.decode(renderer.denoise(warm, bench.encode_anew(warm)), range(count)))
    encode_s = watch.median(lambda: bench.encode_anew(bench.rows(side, ENCODE_BATCH - 1)), 3) / ENCODE_BATCH
    denoise_s, decode_s, pipe_s = list[float](), list[float](), list[float]()
    began = watch.elapsed
    for repeat in range(REPEATS):
        rows = bench.rows(side, count, first=100 * repeat)
        embeds = renderer.encode(rows)
        seconds, latents = watch.timed(lambda rows=rows, embeds=embeds: renderer.denoise(rows, embeds))
        denoise_s.append(seconds)
        decode_s.append(watch.seconds(lambda latents=latents: renderer.decode(latents, range(count))))
        pipe_s.append(watch.seconds(lambda rows=rows: _pipe_call(bench, rows)))
        spent = watch.elapsed - began
        if spent * (repeat + 2) / (repeat + 1) > min(SPEED_SECONDS, watch.left + spent):
            break
    parts = {
        "encode_s_per_image": encode_s,
        "denoise_s_per_image": statistics.median(denoise_s) / count,
        "decode_s_per_image": statistics.median(decode_s) / count,
    }
    ours, theirs, tflop = sum(parts.values()), statistics.median(pipe_s) / count, bench.tflop_per_image(side)
    rate = tflop / (ours - encode_s)
    measured = {
        "seconds_per_image": ours,
        "pipe_seconds_per_image": theirs,
        "speedup": theirs / ours,
        **parts,
        "tflop_per_image": tflop,
        "tflop_per_s": rate,
        "share_of_ceiling": rate / ceiling_tflop_per_s,
        "spread": max((max(seconds) - min(seconds)) / min(seconds) for seconds in (denoise_s, pipe_s)),
    }
    found = {name: _rounded(value) for name, value in measured.items()}
    return {"batch_size": count, **found, "repeats": len(pipe_s), "peak_bytes": peak, "pipe_peak_bytes": pipe_peak}


def _pipe_call(bench: Bench, rows: Sequence[ImageRow]) -> None:
    """As a person would call it."""
    row = rows[0]
    bench.pipe(
        prompt=[row.prompt for row in rows],
        negative_prompt=[row.negative_prompt for row in rows],
        height=row.height,
        width=row.width,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        max_sequence_length=row.max_sequence_length,
        generator=generators(rows),
    )


def memory(bench: Bench, settings: dict[str, Any], sides: Sequence[int]) -> dict[str, Any]:
    """Peaks of each stage, for one image and for the preset's batch at the two largest sizes: '1024 x 4'."""
    try:
        bench.use(settings)
    except Refused as refusal:
        return {"left_out": str(refusal)}
    cases = dict.fromkeys((side, count) for side in sorted(sides)[-2:] for count in (1, bench.batch_size(side)))
    return {"model": settings} | {f"{side} x {count}": _stages(bench, side, count) for side, count in cases}


def _stages(bench: Bench, side: int, count: int) -> dict[str, Any]:
    renderer, watch = bench.renderer, bench.watch
    rows = bench.rows(side, count, steps=MEMORY_STEPS)
    for _ in range(2):  # the first round brings kernels and workspaces, the second is the one that counts
        began = watch.elapsed
        encoding, embeds = watch.peak(lambda: bench.encode_anew(rows))
        denoising, latents = watch.peak(lambda embeds=embeds: renderer.denoise(rows, embeds))
        decoding, pixels = watch.peak(lambda latents=latents: renderer.decode(latents, range(count)))
    if any(one is None for one in pixels):
        raise ValueError("the pictures are not finite")
    peaks = {"encode": encoding, "denoise": denoising, "decode": decoding}
    known = [peak for peak in peaks.values() if peak is not None]
    return {
        "peak_bytes": max(known, default=None),
        **peaks,
        "predicted": predicted(bench, side, count),
        "seconds": _rounded(watch.elapsed - began),
    }


def predicted(bench: Bench, side: int, count: int) -> dict[str, int]:
    """What `batchgen plan` says of each stage, without the part that is no tensor's. One text a row and a negative."""
    model = bench.renderer.spec.model
    footprint = Predictor(model, shapes_of(model)).predict(bench.bucket(side), count, texts=count + 1)
    stages = {"encode": footprint.encoding, "denoise": footprint.denoising, "decode": footprint.decoding}
    return {name: size - CONTEXT for name, size in stages.items()}


def compiled(bench: Bench, side: int) -> dict[str, Any]:
    """Each kind of block of the transformer compiled for one shape, as an experiment: batchgen does not do this."""
    bench.use({})
    renderer, watch, count = bench.renderer, bench.watch, bench.batch_size(side)
    rows = bench.rows(side, count, steps=4)
    embeds = renderer.encode(rows)
    renderer.denoise(rows, embeds)
    eager = watch.median(lambda: renderer.denoise(rows, embeds), REPEATS)
    torch.compiler.reset()
    for block in bench.pipe.transformer.transformer_blocks:
        block.compile(fullgraph=True, dynamic=False)
    try:
        compile_s = watch.seconds(lambda: renderer.denoise(rows, embeds))
        fast = watch.median(lambda: renderer.denoise(rows, embeds), REPEATS)
        rows_alike = batch_alike(renderer, side, count, bench.tokens)
    finally:
        for block in bench.pipe.transformer.transformer_blocks:
            block._compiled_call_impl = None
    return {
        "compile_s": _rounded(compile_s),
        "denoise_speedup": _rounded(eager / fast),
        "rows": rows_alike,
    }


def _rounded(number: float) -> float:
    """Four significant digits: what a repeat would confirm, and more."""
    return float(f"{number:.4g}")
