"""How much memory of a GPU a job will take at its peak: weights exactly, what is computed on them by count.

Weights come from shapes (weights.quantization). The largest transients were counted by tracing every tensor of the real
architectures on the meta device, which tests repeat; what CUDA and its libraries take beside tensors is an assumption.
Arithmetic only: imports no torch and measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.engines.protocol import CACHE_BYTES, ENCODE_BATCH
from batchgen.job import Model
from batchgen.job.steps import CLIP_TOKENS, SNAP
from batchgen.rows.buckets import Bucket
from batchgen.weights.headers import Shapes, of_directory
from batchgen.weights.quantization import ELEMENT, largest_unpacked, stored, streamed
from batchgen.weights.shapes import DECODER_END, of_preset

CONTEXT = 500_000_000  # CUDA's own on one GPU, with cuBLAS and cuDNN: an assumption, 0.3 to 0.6 GB is what people see
# Numbers alive at once at the worst place, per token and width: the first feed-forward layer of a block.
PER_IMAGE_TOKEN, PER_DUAL_TOKEN, PER_TEXT_TOKEN = 13, 1, 3  # of SD3Transformer2DModel
PER_T5_TOKEN = 15
PER_PIXEL = 3  # and channel at the end of the VAE's decoder: a resnet's input, its norm and its activation
TILE = 1024  # pixels a side, AutoencoderKL.tile_sample_min_size with SD3's sample_size
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a GPU in each phase of a shard. resident: of weights that never leave."""

    encoding: int
    denoising: int
    decoding: int
    resident: int

    @property
    def peak(self) -> int:
        return max(self.phases.values())

    @property
    def phase(self) -> str:
        """In which the peak is: 'encoding prompts', 'denoising', 'decoding'."""
        return max(self.phases, key=lambda name: self.phases[name])

    @property
    def phases(self) -> dict[str, int]:
        return {"encoding prompts": self.encoding, "denoising": self.denoising, "decoding": self.decoding}


def shapes_of(model: Model) -> Mapping[str, Shapes] | None:
    """The tensors of a model; None of one whose numbers nobody knows before it is loaded."""
    if model.preset == "fake" or model.engine != "batchgen":
        return None
    directory = Path(model.pretrained_model_name_or_path).expanduser()
    found = of_directory(directory) if directory.is_dir() else None
    return found or (of_preset(model.defaults) if model.defaults.gpu else None)


def predict(model: Model, shapes: Mapping[str, Shapes], bucket: Bucket, batch_size: int, texts: int) -> Footprint:
    """Of a renderer of this model. texts: how many embeddings it will keep."""
    weights = {name: _stored(model, name, shapes[name]) for name in shapes if _is_used(model, name)}
    encoders = sum(weights.get(name, 0) for name in ENCODERS)
    visiting = max(_streamed(model, name, shapes[name]) for name in ENCODERS if name in weights)
    transformer, vae = weights["transformer"], weights["vae"]
    blocks = _streamed(model, "transformer", shapes["transformer"])
    encoding, denoising, decoding, resident = {
        "none": (encoders + transformer + vae,) * 4,
        "encoders": (visiting + transformer + vae, *(transformer + vae,) * 3),
        "model": (visiting + vae, transformer, vae, 0),
        "group": (visiting + vae, blocks + vae, vae, vae),
    }[model.offload]
    kept = CONTEXT + _cache(model, shapes, bucket, texts)
    return Footprint(
        encoding=encoding + kept + _encoded(model, shapes, bucket),
        denoising=denoising + kept + _denoised(model, shapes, bucket, batch_size),
        decoding=decoding + kept + _decoded(model, shapes, bucket, batch_size),
        resident=resident,
    )


def _is_used(model: Model, component: str) -> bool:
    return component != "text_encoder_3" or model.text_encoder_3 is not None


def _kind(model: Model, component: str) -> str | None:
    kind: str | None = getattr(model.quantization, component, None)  # the VAE has none
    return kind


def _stored(model: Model, component: str, shapes: Shapes) -> int:
    return stored(component, shapes, model.dtype_of(component), _kind(model, component))


def _streamed(model: Model, component: str, shapes: Shapes) -> int:
    return streamed(component, shapes, model.dtype_of(component), _kind(model, component))


def _unpacked(model: Model, component: str, shapes: Mapping[str, Shapes]) -> int:
    return largest_unpacked(shapes[component], model.dtype_of(component), _kind(model, component))


def _caption(shapes: Mapping[str, Shapes]) -> tuple[int, int]:
    """Width of the transformer and of the embeddings that it takes."""
    width, caption = shapes["transformer"]["context_embedder.weight"]
    return width, caption


def _embedding(model: Model, shapes: Mapping[str, Shapes], bucket: Bucket) -> int:
    """Bytes of one text."""
    tokens = CLIP_TOKENS + bucket.max_sequence_length
    return tokens * _caption(shapes)[1] * ELEMENT[model.dtype_of("transformer")]


def _cache(model: Model, shapes: Mapping[str, Shapes], bucket: Bucket, texts: int) -> int:
    return min(CACHE_BYTES, texts * _embedding(model, shapes, bucket))


def _encoded(model: Model, shapes: Mapping[str, Shapes], bucket: Bucket) -> int:
    """Transients of a batch of texts in T5; the other encoders' are smaller, and without T5 nobody asks."""
    if not _is_used(model, "text_encoder_3") or "text_encoder_3" not in shapes:
        return 0
    width = shapes["text_encoder_3"]["shared.weight"][1]
    tokens = ENCODE_BATCH * bucket.max_sequence_length
    element = ELEMENT[model.dtype_of("text_encoder_3")]
    return PER_T5_TOKEN * tokens * width * element + _unpacked(model, "text_encoder_3", shapes)


def _denoised(model: Model, shapes: Mapping[str, Shapes], bucket: Bucket, batch_size: int) -> int:
    """Transients of a forward pass, the texts of its rows and their latents."""
    rows = batch_size * (2 if bucket.guidance else 1)
    width, _ = _caption(shapes)
    dual = any(".attn2." in name for name in shapes["transformer"])
    pixels = bucket.height * bucket.width
    image, text = pixels // SNAP**2, CLIP_TOKENS + bucket.max_sequence_length
    numbers = (PER_IMAGE_TOKEN + PER_DUAL_TOKEN * dual) * image + PER_TEXT_TOKEN * text
    forward = rows * width * numbers * ELEMENT[model.dtype_of("transformer")]
    stacked = rows * (2 if bucket.guidance else 1) * _embedding(model, shapes, bucket)  # by sign, then together
    return forward + stacked + _latents(pixels, batch_size) + _unpacked(model, "transformer", shapes)


def _decoded(model: Model, shapes: Mapping[str, Shapes], bucket: Bucket, batch_size: int) -> int:
    """Transients of one image, or of one tile and the whole picture twice; and the latents of the batch."""
    pixels = bucket.height * bucket.width
    element, channels = ELEMENT[model.dtype_of("vae")], shapes["vae"].get(DECODER_END, (256,))[0]
    at_once, rest = pixels, 0
    if model.vae_tiling and max(bucket.height, bucket.width) > TILE:
        at_once = min(bucket.height, TILE) * min(bucket.width, TILE)
        rest = 2 * 3 * pixels * element
    return PER_PIXEL * channels * at_once * element + rest + _latents(pixels, batch_size)


def _latents(pixels: int, batch_size: int) -> int:
    """Noise, velocity and what the step adds: 8 tensors of (16, height/8, width/8) in fp32 for each row."""
    return batch_size * 8 * 16 * pixels // 64 * 4
