"""A renderer made of numpy: deterministic, instant, and it fails on command. For tests and dry runs of a cluster.

Knows no torch and needs no weights. Its pixels depend on the row and on the batch size, as a GPU's do, so whatever
breaks promise P2 on a real device shows here too. A prompt may hold commands:

    fake:raise        denoise raises while the row is in the batch
    fake:until=PATH   denoise raises until this file is there
    fake:nan          the row's latents are not finite
    fake:vae-nan      decoding gives NaN unless the VAE is upcast
    fake:oom>2        OutOfMemory for batches of more than 2 rows
    fake:flat         a picture of one colour
    fake:die          the process ends at once, as by SIGKILL
    fake:hang         denoise does not come back
    fake:hang-once=PATH   the same, unless this file is there; leaves it there
    fake:slow=0.5     denoise takes half a second more

Its device is the process, or what the environment variable BATCHGEN_FAKE_DEVICE says. BATCHGEN_FAKE_SICK makes that
device fail at whatever it is given: `raise`, `oom`, `nan`, `broken` (as after a CUDA error), or `start` (before that).
With `:PATH` behind it only the first process that comes, which leaves this file there.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import batchgen
from batchgen.engines.protocol import ImageRow
from batchgen.errors import OutOfMemory, RendererBroken
from batchgen.job import LOOP, Model, Refine, Sampling
from batchgen.job.steps import refined_size
from batchgen.run.images import Pixels
from batchgen.weights.spec import ModelSpec

DEVICE, SICK = "BATCHGEN_FAKE_DEVICE", "BATCHGEN_FAKE_SICK"


class FakeRenderer:
    device = "fake"
    compile_seconds = None

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._sick = _sickness()
        if self._sick == "start":
            raise RendererBroken("fake: this device does not start")
        self.versions = {"batchgen": batchgen.__version__, "numpy": np.__version__}

    def encode(self, rows: Sequence[ImageRow]) -> list[bytes]:
        return [_texts(row) for row in rows]

    def prepare(self, rows: Sequence[ImageRow]) -> None:
        return None

    def denoise(self, rows: Sequence[ImageRow], embeds: Sequence[Any], prepared: None = None) -> list[Pixels | None]:
        for row in rows:
            _obey(row.prompt, len(rows))
        if self._sick == "raise":
            raise ValueError("fake: this device is sick")
        if self._sick == "oom":
            raise OutOfMemory("fake: this device is sick")
        if self._sick == "broken":
            raise RendererBroken("fake: this device is sick")
        if self._sick == "nan":
            return [None for _ in rows]
        return [self._draw(row, embed, len(rows)) for row, embed in zip(rows, embeds, strict=True)]

    def finite(self, latents: list[Pixels | None]) -> list[bool]:
        return [pixels is not None for pixels in latents]

    def decode(self, latents: list[Pixels | None], rows: Sequence[int], *, upcast: bool = False) -> list[Pixels | None]:
        decoded = [latents[i] for i in rows]
        return [None if pixels is not None and pixels[0, 0, 0] == 254 and not upcast else pixels for pixels in decoded]

    def sigmas(self, row: ImageRow) -> list[float]:
        return [1 - i / row.num_inference_steps for i in range(row.num_inference_steps + 1)]

    def peak_memory(self) -> int | None:
        return None

    def _draw(self, row: ImageRow, embed: bytes, batch_size: int) -> Pixels | None:
        """Blocky noise whose seed is everything that decides the image; the corner marks a VAE that gives NaN."""
        if "fake:nan" in row.prompt:
            return None
        height, width = refined_size(self.spec.refine if row.refine else None, row.height, row.width)
        if "fake:flat" in row.prompt:
            return np.full((height, width, 3), 128, np.uint8)
        decides: tuple[Any, ...] = (
            embed, row.seed, row.height, row.width, row.num_inference_steps, row.guidance_scale,
            row.skip_layer_guidance_scale, row.max_sequence_length, row.adapter, self.spec.digest, batch_size,
        )  # fmt: skip
        if changed := _changed(self.spec, row):
            decides = (*decides, changed)
        seed = int.from_bytes(hashlib.sha256(repr(decides).encode()).digest()[:8], "big")
        blocks = np.random.default_rng(seed).integers(0, 250, (height // 8, width // 8, 3), np.uint8)
        pixels = blocks.repeat(8, 0).repeat(8, 1)
        if "fake:vae-nan" in row.prompt:
            pixels[0, 0, 0] = 254
        return pixels


def _sickness() -> str:
    """Which of the ways to fail this process has, if any."""
    way, _, path = os.environ.get(SICK, "").partition(":")
    if path:
        try:
            open(path, "x").close()
        except FileExistsError:
            return ""
    return way


def _texts(row: ImageRow) -> bytes:
    """What encoders would read. Without second and third negative prompts, as the first fakes said it."""
    own = [text for text in (row.negative_prompt_2, row.negative_prompt_3) if text] if row.guidance_scale > 1 else []
    said = (row.prompt, row.prompt_2, row.prompt_3, row.negative_prompt)
    return repr((*said, row.negative_prompt_2, row.negative_prompt_3) if own else said).encode()


def _changed(spec: ModelSpec, row: ImageRow) -> list[tuple[str, Any]]:
    """Settings of loop, second pass and kernels that are not at their defaults, and at work in this row."""
    usual = {name: Sampling.model_fields[name].default for name in LOOP}
    usual["skip_guidance_layers"] = [*spec.model.defaults.skip_guidance_layers]
    idle: tuple[str, ...] = ()
    if row.guidance_scale <= 1:
        idle = ("guidance", "skip", "negative")
    elif not row.skip_layer_guidance_scale:
        idle = ("skip",)
    names = [name for name in LOOP if not name.startswith((*idle, "reuse"))]
    sampling = row.sampling or spec.sampling
    found = [(name, value) for name in names if (value := getattr(sampling, name)) != usual[name]]
    refine = spec.refine if row.refine else None
    halves = row.guidance_scale > 1 or (refine is not None and refine.guidance_scale > 1)
    if sampling.reuse.blocks_every > 1 or (sampling.reuse.is_on and halves):
        found.append(("reuse", str(sampling.reuse)))
    again = refine.model_dump(exclude={"model"}).items() if refine else ()
    fields = Refine.model_fields
    found += [
        (f"model.{name}", value)
        for name in ("kernels", "attention")
        if (value := getattr(spec.model, name)) != Model.model_fields[name].default
    ]
    return found + [(f"refine.{name}", value) for name, value in again if value != fields[name].default]


def _obey(prompt: str, batch_size: int) -> None:
    if "fake:die" in prompt:
        os._exit(1)
    if (once := re.search(r"fake:hang-once=(\S+)", prompt)) and not os.path.exists(once[1]):
        open(once[1], "x").close()
        time.sleep(3600)
    if re.search(r"fake:hang\b(?!-)", prompt):
        time.sleep(3600)
    if "fake:raise" in prompt:
        raise ValueError("fake:raise was asked for")
    if (file := re.search(r"fake:until=(\S+)", prompt)) and not os.path.exists(file[1]):
        raise ValueError(f"{file[1]} is not there yet")
    if (limit := re.search(r"fake:oom>(\d+)", prompt)) and batch_size > int(limit[1]):
        raise OutOfMemory(f"fake: {batch_size} rows do not fit, {limit[1]} do")
    if slow := re.search(r"fake:slow=([\d.]+)", prompt):
        time.sleep(float(slow[1]))
