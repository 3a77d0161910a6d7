"""Whether a job fits a GPU, and which settings would make it: what `batchgen plan` says of memory.

Tries settings in the order of what they cost, from time that a shard hardly notices to pictures that change. Arithmetic
only; `footprint` counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from batchgen.cost.footprint import Footprint, Predictor, shapes_of
from batchgen.job import Job, Model, Refine
from batchgen.job.steps import refined_size
from batchgen.plan.sharding import Summary
from batchgen.rows.buckets import Bucket
from batchgen.weights.headers import Shapes


@dataclass(frozen=True, slots=True)
class Saving:
    """A change of `model:` that takes less memory. key: the setting. text: how it is written, with its value."""

    key: str
    text: str
    change: Mapping[str, Any]


def _setting(key: str, value: Any) -> Saving:
    return Saving(key, f"model.{key}: {value}", {key: value})


def _quantized(component: str, kind: str) -> Saving:
    key = f"quantization.{component}"
    return Saving(key, f"model.{key}: {kind}", {"quantization": {component: kind}})


# The least costly first: time that a shard amortizes, speed, then what changes pictures, then speed in every step.
SAVINGS = (
    _setting("offload", "encoders"),
    *(_setting("batch_size", size) for size in (8, 4, 2, 1)),
    Saving("vae_tiling", "model.vae_tiling: true", {"vae_tiling": True}),
    _quantized("text_encoder_3", "float8"),
    Saving("text_encoder_3", "model.text_encoder_3: null", {"text_encoder_3": None}),
    _quantized("transformer", "bitsandbytes_4bit"),
    _setting("offload", "model"),
    _setting("offload", "group"),
)


@dataclass(frozen=True, slots=True)
class Fitting:
    """The parts of a job that decide how much memory it takes.

    batches: each bucket with its batch size. texts: how many embeddings a renderer may keep.
    """

    model: Model
    refine: Refine | None
    batches: tuple[tuple[Bucket, int], ...]
    texts: int

    @classmethod
    def of(cls, job: Job, summary: Summary) -> Fitting:
        batches = tuple((count.key, count.batch_size) for count in summary.buckets.values() if count.key is not None)
        return cls(job.model, job.refine, batches, summary.prompts + 1)  # one for a negative that all share

    def footprint(self) -> Footprint | None:
        """Of the bucket that takes most; None where nothing is known of the model, or nothing is to be rendered."""
        shapes = shapes_of(self.model)
        if shapes is None or not self.batches:
            return None
        found = [self._of_bucket(shapes, bucket, self._size(planned)) for bucket, planned in self.batches]
        return max(found, key=lambda one: one.peak)

    def _size(self, planned: int) -> int:
        return planned if self.model.batch_size == "auto" else min(planned, self.model.batch_size)

    def _of_bucket(self, shapes: Mapping[str, Shapes], bucket: Bucket, size: int) -> Footprint:
        """Both passes; weights of the other pass's checkpoint that never leave are there too."""
        first = Predictor(self.model, shapes).predict(bucket, size, self.texts)
        if self.refine is None or not bucket.refined:
            return first
        height, width = refined_size(self.refine, bucket.height, bucket.width)
        larger = replace(bucket, height=height, width=width, guidance=self.refine.guidance_scale > 1)
        model = self.refine.model or self.model
        second = Predictor(model, shapes_of(model) or shapes).predict(larger, size, self.texts)
        if self.refine.model is None:
            return max(first, second, key=lambda one: one.peak)
        return max(_beside(first, second.resident), _beside(second, first.resident), key=lambda one: one.peak)

    def after(self, savings: Iterable[Saving]) -> Fitting:
        """The same job with these changes; a batch size that is smaller already stays."""
        model = self.model
        for saving in savings:
            change = dict(saving.change)
            if "quantization" in change:
                change["quantization"] = model.quantization.model_copy(update=change["quantization"])
            model = model.model_copy(update=change)
        return replace(self, model=model)

    def ways_to_fit(self, limit: float) -> Iterator[tuple[str, Footprint]]:
        """Changes that bring the peak below limit bytes, each alone, the least costly first; else some together."""
        useful = [saving for saving in SAVINGS if self._is_open(saving)]
        alone: dict[str, tuple[str, Footprint]] = {}  # by key: the largest batch size that fits is the one to name
        for saving in useful:
            footprint = self._peak([saving])
            if footprint.peak <= limit:
                alone.setdefault(saving.key, (saving.text, footprint))
        if alone:
            yield from alone.values()
            return
        together: list[Saving] = []
        for saving in useful:
            together = [other for other in together if not set(other.change) & set(saving.change)] + [saving]
            if self._peak(together).peak <= limit:
                for one in list(together):  # what does not help is left out
                    rest = [other for other in together if other is not one]
                    together = rest if self._peak(rest).peak <= limit else together
                yield ", ".join(one.text for one in together), self._peak(together)
                return

    def _peak(self, savings: Iterable[Saving]) -> Footprint:
        found = self.after(savings).footprint()
        assert found is not None  # the model is the same
        return found

    def _is_open(self, saving: Saving) -> bool:
        """Not taken already, nor worse than what is."""
        (key, value), *_ = saving.change.items()
        if key == "quantization":
            (component,) = value
            gone = component == "text_encoder_3" and self.model.text_encoder_3 is None
            return not gone and getattr(self.model.quantization, component) is None
        if key == "batch_size":
            return int(value) < max(self._size(planned) for _, planned in self.batches)
        if key == "offload":
            steps = ("none", "encoders", "model", "group")
            return bool(steps.index(value) > steps.index(self.model.offload))
        return bool(getattr(self.model, key) != value)


def _beside(found: Footprint, others: int) -> Footprint:
    """With weights of another checkpoint on the same device."""
    phases = (found.encoding + others, found.denoising + others, found.decoding + others)
    return Footprint(*phases, resident=found.resident + others)


def lines(job: Job, summary: Summary) -> Iterator[str]:
    """What `batchgen plan` says of a GPU's memory; nothing where nothing is known."""
    if job.model.engine == "diffusers":  # whatever stays on the GPU there is the pipeline's business
        return
    fitting = Fitting.of(job, summary)
    found = fitting.footprint()
    if found is None:
        return
    others = ", ".join(f"{_gb(size)} {phase}" for phase, size in found.phases.items() if phase != found.phase)
    yield f"predicted peak memory of a GPU: {_gb(found.peak)}, while {found.phase} ({others})"
    card = job.cluster.gpu_memory_gb
    if card is None:
        return
    if found.peak <= card * 1e9:
        yield f"fits a GPU of {card:g} GB (cluster.gpu_memory_gb)"
        return
    ways = list(fitting.ways_to_fit(card * 1e9))
    if not ways:
        yield f"does not fit a GPU of {card:g} GB (cluster.gpu_memory_gb), whatever is set: render smaller images."
        return
    yield f"does not fit a GPU of {card:g} GB (cluster.gpu_memory_gb). This would, the least costly first:"
    yield from (f"  {text}  ({_gb(fits.peak)}, while {fits.phase})" for text, fits in ways)


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
