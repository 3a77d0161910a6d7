"""The protocol of a renderer, encode → denoise → decode, and the one function that makes one.

Policy (padding, splitting, retrying) is `render.batches`': a renderer does what it is told with exactly the rows
it is given. Imports no torch; embeddings and latents are opaque to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from batchgen.job import Sampling
from batchgen.run.images import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """All of an image row that a renderer needs. Rows of one batch agree on everything that the bucket key holds.

    sampling: what its cell says of the loop, with what the job says beside; None where all rows have the job's.
    refine: whether it has the job's second pass, if there is one.
    """

    image_id: str
    prompt: str
    prompt_2: str | None = None
    prompt_3: str | None = None
    negative_prompt: str = ""
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    max_sequence_length: int
    seed: int
    skip_layer_guidance_scale: float = 0.0
    negative_prompt_2: str | None = None
    negative_prompt_3: str | None = None
    adapter: str | None = None
    sampling: Sampling | None = None
    refine: bool = True


class Renderer(Protocol):
    """One pipeline on one device. Not thread-safe but for `prepare`: one thread makes it, and calls all else."""

    device: str  # 'NVIDIA H100 80GB HBM3', 'cpu'
    versions: dict[str, str]  # package → version, of whatever decides pixels; and the kernel of `attention`

    @property
    def compile_seconds(self) -> float | None:
        """What kernels of shapes that came so far took to compile. None where nothing is compiled."""
        ...

    def encode(self, rows: Sequence[ImageRow]) -> Sequence[Any]:
        """One opaque embedding per row. Deduplicated and cached; each text is encoded at a fixed batch size."""
        ...

    def prepare(self, rows: Sequence[ImageRow]) -> Any:
        """What `denoise` of these rows needs of the CPU: noise. Opaque, and good for one call. Touches no device."""
        ...

    def denoise(self, rows: Sequence[ImageRow], embeds: Sequence[Any], prepared: Any = None) -> Any:
        """Latents (batch, 16, height/8, width/8). Row i depends on rows[i], embeds[i] and the batch size only.

        prepared: of these rows, if that was done beforehand.

        Raises OutOfMemory (smaller batch may work), RendererBroken (leave the process).
        """
        ...

    def finite(self, latents: Any) -> list[bool]:
        """Per row: are all latents finite?"""
        ...

    def decode(self, latents: Any, rows: Sequence[int], *, upcast: bool = False) -> list[Pixels | None]:
        """Pixels of the given rows of the batch, decoded one by one; None where the decoder gave NaN.

        upcast: run the VAE in fp32 (the second chance of a row whose decoding gave NaN).
        """
        ...

    def sigmas(self, row: ImageRow) -> list[float]:
        """The noise levels of the loop of a row and its batch, num_inference_steps + 1 values from 1 to 0."""
        ...

    def peak_memory(self) -> int | None:
        """The most bytes that were in use so far: on the GPU, or without one by this process. None: not known."""
        ...


# The batch shape chooses the kernels and so the last bits of an embedding: one size for all, short batches padded with
# "". Eight, because a shard rarely brings fewer texts, and T5-XXL's activations for eight are well below 1 GB.
ENCODE_BATCH = 8
# One embedding of SD3.5 is 2.7 MB in bf16 (333 × 4096): this holds about 190, which is the prompts of a shard and the
# negative prompts of a run. A larger cache would take memory from the batch, to save 0.5 % of the FLOPs.
CACHE_BYTES = 512 * 2**20
