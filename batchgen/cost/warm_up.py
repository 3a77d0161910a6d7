"""What compiled kernels cost before they save anything: the shapes that each renderer compiles when they first come.

A shape is what a block of the transformer is given: rows, size, tokens of text, adapter. Arithmetic on a plan's
buckets; how long it took only a run that has rendered can say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batchgen.cost.measured import Measured
from batchgen.job import Job, Model, Refine
from batchgen.job.steps import refined_size
from batchgen.plan.sharding import BucketCount, Summary
from batchgen.rows.buckets import Bucket
from batchgen.words import duration

Shape = tuple[int, int, int, int, str]  # rows, height, width, tokens of T5, adapter


def lines(job: Job, summary: Summary, measured: Measured | None) -> Iterator[str]:
    """What `batchgen plan` says of it; nothing where kernels are eager."""
    if job.model.kernels == "eager" or job.model.preset == "fake":
        return
    shapes = compiled_shapes(job.refine, summary.buckets.values())
    if not shapes:
        return
    kinds = block_kinds(job.model)
    known = measured.compile_seconds if measured else None
    took = f"took a renderer up to {duration(known)} there" if known is not None else "is not measured yet"
    yield (
        f"compiled kernels: a renderer compiles {len(shapes)} shape{'' if len(shapes) == 1 else 's'} of batches times "
        f"{kinds} kinds of block, each when it first comes and once for a node. That {took}, and is in no estimate"
    )


def compiled_shapes(refine: Refine | None, buckets: Iterable[BucketCount]) -> set[Shape]:
    """Of all passes over the batches of these buckets."""
    return {
        shape
        for count in buckets
        if count.key is not None
        for shape in _of_bucket(count.key, count.batch_size, refine if count.key.refined else None)
    }


def _of_bucket(bucket: Bucket, rows: int, refine: Refine | None) -> Iterator[Shape]:
    """Guided steps double the rows; unguided ones, and the extra pass of skip-layer guidance, do not."""
    size = (bucket.height, bucket.width, bucket.max_sequence_length, bucket.adapter)
    if bucket.guided_steps:
        yield 2 * rows, *size
    if bucket.guided_steps < bucket.num_inference_steps or bucket.skip_layers:
        yield rows, *size
    if refine is not None:
        height, width = refined_size(refine, bucket.height, bucket.width)
        doubled = 2 if refine.guidance_scale > 1 else 1
        yield doubled * rows, height, width, bucket.max_sequence_length, bucket.adapter if refine.model is None else ""


def block_kinds(model: Model) -> int:
    """With two attentions, with one, and the last, which gives no text on: as its preset has them."""
    _, dual, *_ = model.defaults.transformer
    return 3 if dual else 2
