"""Small JPEGs of a run's pictures, for pages that show many of them. Knows the files of data/ and no scores."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq
from PIL import Image

from batchgen.run import images
from batchgen.run.directory import Run, read_shards
from batchgen.run.index import ShardRef
from batchgen.run.layout import data_path

SIDE, QUALITY = 192, 80


def thumbnails(run: Run, wanted: set[str]) -> Mapping[str, bytes]:
    """image_id → JPEG of at most SIDE pixels. What is not committed is not there."""
    committed = run.committed()
    shards = [shard for plan in run.plans for shard in run.shards(plan) if shard.number in committed]

    def read(shard: ShardRef) -> Sequence[tuple[str, bytes]]:
        with run.store.open_file(data_path(shard.number)) as opened:
            table = pq.read_table(opened, columns=["image_id", "image"], filters=[("image_id", "in", wanted)])
        return [(row["image_id"], small(row["image"]["bytes"])) for row in table.to_pylist()]

    return {image_id: data for found in read_shards(shards, read, readers=4) for image_id, data in found}


def small(picture: bytes, side: int = SIDE) -> bytes:
    """An encoded picture, as a JPEG no larger than this. ValueError: not a whole PNG, WebP or JPEG, or too large."""
    image = Image.fromarray(images.decode(picture))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=QUALITY)
    return sink.getvalue()
