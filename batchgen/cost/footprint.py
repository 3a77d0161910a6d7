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
from batchgen.job import TEXT_ENCODERS, Job, Model
from batchgen.job.steps import CLIP_TOKENS, SNAP
from batchgen.rows.buckets import Bucket
from batchgen.weights.headers import Shapes, of_directory
from batchgen.weights.quantization import ELEMENT, largest_unpacked, stored, streamed
from batchgen.weights.shapes import DECODER_END, of_preset

CONTEXT = 500_000_000  # CUDA's own on one GPU, with cuBLAS and cuDNN: an assumption, 0.3 to 0.6 GB is what people see
# Numbers alive at once at the worst place, per token and width: the first feed-forward layer of a block.
PER_IMAGE_TOKEN, PER_DUAL_TOKEN, PER_TEXT_TOKEN = 13, 1, 3  # of SD3Transformer2DModel
PER_REUSED_TOKEN = 1  # of the image: what the blocks were given, kept until what they added to it is known
PER_T5_TOKEN = 15
PER_PIXEL = 3  # and channel at the end of the VAE's decoder: a resnet's input, its norm and its activation
TILE = 1024  # pixels a side, AutoencoderKL.tile_sample_min_size with SD3's sample_size


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


def weights_of(job: Job) -> int:
    """Bytes of all weights of a renderer; 0 where nobody knows."""
    models = [job.model, *([job.refine.model] if job.refine and job.refine.model else [])]
    found = [(model, shapes_of(model)) for model in models]
    return sum(Predictor(model, shapes).weights for model, shapes in found if shapes)


@dataclass(frozen=True, slots=True)
class Predictor:
    """Of a renderer of this model. shapes: of the tensors of each component."""

    model: Model
    shapes: Mapping[str, Shapes]

    def predict(self, bucket: Bucket, batch_size: int, texts: int) -> Footprint:
        """While shards of this bucket are rendered. texts: how many embeddings it will keep."""
        encoding, denoising, decoding, resident = self._weights()
        kept = CONTEXT + min(CACHE_BYTES, texts * self._embedding(bucket))
        return Footprint(
            encoding=encoding + kept + self._encoded(bucket),
            denoising=denoising + kept + self._denoised(bucket, batch_size),
            decoding=decoding + kept + self._decoded(bucket, batch_size),
            resident=resident,
        )

    @property
    def weights(self) -> int:
        """Bytes of all components, wherever they lie."""
        used = [name for name in self.shapes if name in (*TEXT_ENCODERS, "transformer", "vae") and self._is_used(name)]
        return sum(self._stored(name) for name in used)

    def _weights(self) -> tuple[int, int, int, int]:
        """Bytes of weights on the GPU while encoding, denoising and decoding, and of those that never leave it."""
        present = [name for name in TEXT_ENCODERS if name in self.shapes and self._is_used(name)]
        visiting = max(self._streamed(name) for name in present)
        transformer, vae = self._stored("transformer"), self._stored("vae")
        if self.model.offload == "none":
            return self.weights, self.weights, self.weights, self.weights
        if self.model.offload == "encoders":
            rest = transformer + vae
            return visiting + rest, rest, rest, rest
        if self.model.offload == "model":
            return visiting + vae, transformer, vae, 0
        return visiting + vae, self._streamed("transformer") + vae, vae, vae

    def _is_used(self, component: str) -> bool:
        return component != "text_encoder_3" or self.model.text_encoder_3 is not None

    def _quantization(self, component: str) -> str | None:
        kind: str | None = getattr(self.model.quantization, component, None)  # the VAE has none
        return kind

    def _stored(self, component: str) -> int:
        dtype = self.model.dtype_of(component)
        return stored(component, self.shapes[component], dtype, self._quantization(component))

    def _streamed(self, component: str) -> int:
        dtype = self.model.dtype_of(component)
        return streamed(component, self.shapes[component], dtype, self._quantization(component))

    def _unpacked(self, component: str) -> int:
        dtype = self.model.dtype_of(component)
        return largest_unpacked(self.shapes[component], dtype, self._quantization(component))

    def _caption(self) -> tuple[int, int]:
        """Width of the transformer and of the embeddings that it takes."""
        width, caption = self.shapes["transformer"]["context_embedder.weight"]
        return width, caption

    def _embedding(self, bucket: Bucket) -> int:
        """Bytes of one text."""
        tokens = CLIP_TOKENS + bucket.max_sequence_length
        return tokens * self._caption()[1] * ELEMENT[self.model.dtype_of("transformer")]

    def _encoded(self, bucket: Bucket) -> int:
        """Transients of a batch of texts in T5; the other encoders' are smaller, and without T5 nobody asks."""
        if not self._is_used("text_encoder_3") or "text_encoder_3" not in self.shapes:
            return 0
        width = self.shapes["text_encoder_3"]["shared.weight"][1]
        tokens = ENCODE_BATCH * bucket.max_sequence_length
        element = ELEMENT[self.model.dtype_of("text_encoder_3")]
        return PER_T5_TOKEN * tokens * width * element + self._unpacked("text_encoder_3")

    def _denoised(self, bucket: Bucket, batch_size: int) -> int:
        """Transients of a forward pass, the texts of its rows and their latents."""
        rows = batch_size * (2 if bucket.guidance else 1)
        width, _ = self._caption()
        dual = any(".attn2." in name for name in self.shapes["transformer"])
        pixels = bucket.height * bucket.width
        image, text = pixels // SNAP**2, CLIP_TOKENS + bucket.max_sequence_length
        reused = PER_REUSED_TOKEN * (bucket.sampling.reuse.blocks_every > 1)
        numbers = (PER_IMAGE_TOKEN + PER_DUAL_TOKEN * dual + reused) * image + PER_TEXT_TOKEN * text
        forward = rows * width * numbers * ELEMENT[self.model.dtype_of("transformer")]
        stacked = rows * (2 if bucket.guidance else 1) * self._embedding(bucket)  # by sign, then together
        return forward + stacked + _latents(pixels, batch_size) + self._unpacked("transformer")

    def _decoded(self, bucket: Bucket, batch_size: int) -> int:
        """Transients of one image, or of one tile and the whole picture twice; and the latents of the batch."""
        pixels = bucket.height * bucket.width
        element, channels = ELEMENT[self.model.dtype_of("vae")], self.shapes["vae"].get(DECODER_END, (256,))[0]
        at_once, rest = pixels, 0
        if self.model.vae_tiling and max(bucket.height, bucket.width) > TILE:
            at_once = min(bucket.height, TILE) * min(bucket.width, TILE)
            rest = 2 * 3 * pixels * element
        return PER_PIXEL * channels * at_once * element + rest + _latents(pixels, batch_size)


def _latents(pixels: int, batch_size: int) -> int:
    """Noise, velocity and what the step adds: 8 tensors of (16, height/8, width/8) in fp32 for each row."""
    return batch_size * 8 * 16 * pixels // 64 * 4
