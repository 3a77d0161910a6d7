"""What a job will cost, in words: GPU-hours, time, money, bytes, memory. Measured where something is measured.

Arithmetic on a plan's summary; reads nothing. Loading weights and starting up are left out: minutes of each renderer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchgen.cluster.environment import address
from batchgen.cluster.renderers import renderer_of, settled, this_machine
from batchgen.cost import fitting, warm_up
from batchgen.cost.footprint import weights_of
from batchgen.cost.measured import Measured
from batchgen.job import Job
from batchgen.plan.sharding import BucketCount, Summary
from batchgen.rows.buckets import assumed_bytes, block_passes
from batchgen.run.images import FORMATS, usual_quality
from batchgen.words import duration, size

NAMES = {"png": "PNG", "webp": "WebP", "jpeg": "JPEG"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """seconds: how long one renderer alone would take. renderers: how many can work at the same time.

    gpus: per renderer, 1 if it has none. counts_gpus: whether these are GPUs.
    """

    seconds: float
    renderers: int
    gpus: float
    counts_gpus: bool

    @property
    def device_hours(self) -> float:
        return self.seconds * self.gpus / 3600


def estimate(job: Job, summary: Summary, measured: Measured | None) -> Estimate:
    rate = measured.tflop_per_s if measured else job.model.defaults.tflop_per_s
    known = measured.seconds if measured else {}
    seconds = sum(_seconds(bucket, known.get(name), rate) for name, bucket in summary.buckets.items())
    shards = sum(bucket.shards for bucket in summary.buckets.values())
    wanted = job.cluster.num_gpus
    counts_gpus = job.model.defaults.gpu if wanted is None else wanted > 0
    return Estimate(seconds, _renderers(job, shards, counts_gpus), wanted or 1.0, counts_gpus)


def _renderers(job: Job, shards: int, counts_gpus: bool) -> int:
    """As many as the job says, or as this machine would hold; of a cluster that is joined, nobody knows that yet."""
    renderers = job.cluster.renderers
    if renderers.max_size is None and address(job.cluster) is None:
        wanted = job.cluster.num_gpus
        gpus = (1.0 if counts_gpus else 0.0) if wanted is None else wanted
        each = renderer_of(job.cluster, gpus, weights_of(job))
        renderers = settled(renderers, [this_machine()], each, max(1, shards))
    return max(1, min(renderers.max_size or renderers.min_size or 1, shards))


def _seconds(bucket: BucketCount, each: float | None, rate: float) -> float:
    """Seconds for a bucket. Its last batch is padded, so it costs as much as a full one."""
    places = -(-bucket.images // bucket.batch_size) * bucket.batch_size
    return places * (bucket.tflop / bucket.images / rate if each is None else each)


def lines(job: Job, summary: Summary, measured: Measured | None, job_file: str) -> Iterator[str]:
    """What `batchgen plan` says of cost."""
    found = estimate(job, summary, measured)
    if measured is None:
        assumed = f"a renderer sustains {job.model.defaults.tflop_per_s:g} TFLOP/s"
        if job.model.preset == "diffusers":
            assumed += ", and an image costs what it does with SD3.5 Large"
        yield f"nothing is measured yet; assumed: {assumed}. To measure: batchgen render {job_file} --limit 20"
    else:
        yield f"measured in {measured.place} on {measured.device}: {_per_image(summary, measured)}"
    price = job.cluster.price_per_gpu_hour
    money = f", {found.device_hours * price:.2f} at {price:g} per GPU-hour" if price is not None else ""
    unit = "GPU" if found.counts_gpus else "renderer"
    devices = found.renderers * found.gpus
    plural = "" if devices == 1 else "s"
    yield (
        f"{summary.tflop:.4g} TFLOP, {found.device_hours:.3g} {unit}-hours: about "
        f"{duration(found.seconds / found.renderers)} on {devices:g} {unit}{plural}{money}"
    )
    if job.cluster.renderers.max_size is None:
        yield f"cluster.renderers is not set: {_as_many(job, found)}"
    yield from _reused(job, summary)
    yield from warm_up.lines(job, summary, measured)
    yield _storage(job, summary.pixels, measured)
    if found.counts_gpus:
        yield from fitting.lines(job, summary)
    if measured is not None and measured.peak_memory is not None:
        yield f"peak memory of a renderer: {size(measured.peak_memory)}"
    if measured is not None and measured.cold_start is not None:
        yield f"cold start of a renderer: {measured.cold_start:.3g} s until its weights were loaded"


def _as_many(job: Job, found: Estimate) -> str:
    if address(job.cluster) is not None:
        return "as many as the cluster holds when rendering begins"
    return f"as many as this machine holds, {found.renderers}"


def _reused(job: Job, summary: Summary) -> Iterator[str]:
    """What share of the work of the transformer's blocks `sampling.reuse` leaves out. The figures above count it."""
    saved = all_passes = 0
    for count in summary.buckets.values():
        if count.key is not None:
            mine, whole = block_passes(count.key, job.refine)
            saved, all_passes = saved + mine * count.images, all_passes + whole * count.images
    if saved:
        yield (
            f"sampling.reuse leaves out {saved / all_passes:.0%} of all passes through the transformer's blocks; "
            "pictures are others than without it"
        )


def _per_image(summary: Summary, measured: Measured) -> str:
    """Seconds per image, with the buckets that they apply to."""
    here = [measured.seconds[name] for name in summary.buckets if name in measured.seconds]
    if not here:
        return f"{measured.tflop_per_s:.3g} TFLOP/s, of other sizes or settings than this job's"
    missing = len(summary.buckets) - len(here)
    others = f" ({missing} of {len(summary.buckets)} buckets are not measured: by their TFLOP)" if missing else ""
    return seconds_per_image(here) + others


def seconds_per_image(seconds: list[float]) -> str:
    """'3.2 s per image', or the range where buckets differ."""
    least, most = f"{min(seconds):.3g}", f"{max(seconds):.3g}"
    return f"{least} s per image" if least == most else f"{least} to {most} s per image, by bucket"


def _storage(job: Job, pixels: int, measured: Measured | None) -> str:
    sizes, known = [], measured.bytes_per_pixel if measured else {}
    for name in FORMATS:
        usual = usual_quality(name)
        quality = f" (quality {job.output.image_quality or usual})" if usual is not None else ""
        assumed = assumed_bytes(job.model.defaults, name)
        sizes.append(f"{size(pixels * known.get(name, assumed))} as {NAMES[name]}{quality}")
    stored = NAMES[job.output.image_format]
    source = "by the pictures there" if known else "assumed"
    return f"about {', '.join(sizes)}, {source}; this job stores {stored}"
