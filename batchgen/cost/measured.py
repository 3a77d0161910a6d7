"""What finished shards say of speed, of bytes and of memory: of the run itself, or of a preview of its model.

Reads a few shards of each bucket, however many there are. Knows the run directory and its previews; what a job will
cost `estimate` says.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import BatchgenError, Infrastructure
from batchgen.job import Output
from batchgen.plan import preview
from batchgen.plan.preflight import Prepared
from batchgen.run import images
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.directory import Run, read_shard, read_shards
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path, plan_json
from batchgen.run.shard_file import Footer
from batchgen.storage.store import PROBE_SECONDS, Store

SHARDS_PER_BUCKET = 12
PICTURES = 12  # are encoded in every format: at 1024 × 1024 four seconds of one core


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """place: where it was measured. seconds: bucket → seconds that an image of a full batch takes on the device.

    tflop_per_s: for other buckets. bytes_per_pixel: by format. peak_memory: bytes, where the renderer knows.
    cold_start: seconds from a renderer's beginning until its weights were loaded, the longest. compile_seconds: that a
    renderer's kernels took to compile, the longest; None where none were.
    """

    place: str
    device: str
    seconds: dict[str, float]
    tflop_per_s: float
    bytes_per_pixel: dict[str, float]
    peak_memory: int | None
    cold_start: float | None
    compile_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """A shard that was read: its row of the index, its footer, seconds of an image as of a full batch."""

    shard: ShardRef
    footer: Footer
    seconds: float


def find(prepared: Prepared) -> Measured | None:
    """Of the run, as far as it is; else of a preview: one of this very job before others, the newest of them."""
    if prepared.run is not None and (found := measure(prepared.run, prepared.job.output)):
        return found
    mine = f"-{prepared.fingerprint[: preview.NAME_DIGITS]}"
    alike = [(other, read) for other, read in _previews(prepared) if read]
    if not alike:
        return None
    best = max(alike, key=lambda pair: (pair[0].store.url.endswith(mine), pair[1][0].footer.finished_at))
    return _together(*best, prepared.job.output)


def measure(run: Run, output: Output) -> Measured | None:
    """What is known from a run; None where nothing is rendered yet. output: the quality that bytes are wanted for."""
    read = _read(run)
    return _together(run, read, output) if read else None


def _together(run: Run, read: list[_Read], output: Output) -> Measured:
    by_bucket: dict[str, list[float]] = {}
    for item in read:
        by_bucket.setdefault(item.shard.label, []).append(item.seconds)
    memory = [item.footer.constants.get("peak_memory_bytes") for item in read]
    starts = [item.footer.constants.get("cold_start_seconds") for item in read]
    compiling = [item.footer.constants.get("compile_seconds") for item in read]
    return Measured(
        place=str(run.store),
        device=", ".join(sorted({item.footer.constants["device"] for item in read})),
        # Medians: the first batch of a renderer pays for what is compiled and cached on the way.
        seconds={bucket: median(times) for bucket, times in by_bucket.items()},
        tflop_per_s=median(item.shard.tflop_per_image / item.seconds for item in read),
        bytes_per_pixel=_bytes_per_pixel(run, read, output),
        peak_memory=max((taken for taken in memory if taken is not None), default=None),
        cold_start=max((seconds for seconds in starts if seconds is not None), default=None),
        compile_seconds=max((seconds for seconds in compiling if seconds is not None), default=None),
    )


def _previews(prepared: Prepared) -> Iterator[tuple[Run, list[_Read]]]:
    """Previews of the same model, as far as they can be read."""
    plan = f"/{plan_json(0)}"
    try:
        folder = preview.folder(prepared.job.output.path)
        names = [entry.path.removesuffix(plan) for entry in Store.open(folder, PROBE_SECONDS).list()
                 if entry.path.endswith(plan)]  # fmt: skip
    except BatchgenError:
        return
    for name in names:
        with contextlib.suppress(BatchgenError):
            run = Run.open(Store.open(f"{folder}/{name}", PROBE_SECONDS))
            if run.plans[0].facts.for_speed() == prepared.facts.for_speed():
                yield run, _read(run)


def _read(run: Run) -> list[_Read]:
    """Some shards of every bucket, the buckets by turns."""
    committed = run.committed()
    turns: list[tuple[int, ShardRef]] = []
    seen: Counter[str] = Counter()
    for plan in run.plans:
        for shard in run.shards(plan):
            if shard.number in committed and seen[shard.label] < SHARDS_PER_BUCKET:
                turns.append((seen[shard.label], shard))
                seen[shard.label] += 1
    chosen = [shard for _, shard in sorted(turns, key=lambda turn: turn[0])]
    return [item for item in read_shards(chosen, partial(_one, run)) if item is not None]


def _one(run: Run, shard: ShardRef) -> _Read | None:
    """None where a shard is damaged, or holds failures only."""
    try:
        footer, rows = read_shard(run, shard.number)
    except Infrastructure:
        return None
    seconds = full_batch_seconds(rows)
    return _Read(shard, footer, seconds) if seconds > 0 else None


def full_batch_seconds(rows: pa.Table) -> float:
    """Seconds of an image had every batch been full: render_seconds shares a batch among its rows, not its padding."""
    sizes = Counter(rows["batch_size"].to_pylist())
    places = sum(-(-count // size) * size for size, count in sizes.items())
    return sum(rows["render_seconds"].to_pylist()) / places if places else 0.0


def _bytes_per_pixel(run: Run, read: list[_Read], output: Output) -> dict[str, float]:
    """By format, of one picture of each of a few shards: as it is stored, and encoded again in the other formats.

    Nothing where none can be read.
    """
    total, area = Counter[str](), 0
    for item in read[:PICTURES]:
        try:
            with found_damaged(), run.store.open_file(data_path(item.shard.number)) as opened:
                (row,) = next(pq.ParquetFile(opened).iter_batches(batch_size=1, columns=["image"])).to_pylist()
            pixels = images.decode(row["image"]["bytes"])
        except DAMAGED:  # the doctor says more of it
            continue
        area += pixels.shape[0] * pixels.shape[1]
        for name in images.FORMATS:
            quality = None if name == "png" else output.image_quality
            stored = name == run.plans[0].job.output.image_format == output.image_format
            total[name] += len(row["image"]["bytes"] if stored else images.encode(pixels, name, quality))
    return {name: total[name] / area for name in images.FORMATS} if area else {}
