"""shard_file.py: a data file holds what was rendered, reads anywhere, and nothing damaged is ever returned."""

import dataclasses
import io
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.run import images, shard_file
from batchgen.run.shard_file import EncodedPicture, Failure, Footer

EXTRAS = [pa.field("Category", pa.string()), pa.field("score", pa.float64())]


def plan_rows(count):
    target = schema.plan_schema(EXTRAS)
    values = {"height": 16, "width": 16, "batch_size": 2, "shard": 3, "sample_index": 0, "cell": "default"}
    rows = [
        {**values, "image_id": f"image-{i}", "prompt_id": f"p{i}", "prompt": "a", "Category": "x", "score": 0.5}
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=target)


def picture(i):
    pixels = np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)
    values = {
        "batch_size": 2, "planned_batch_size": 2, "image_height": 16, "image_width": 16,
        "suspect": None, "pixel_sha256": images.pixel_sha256(pixels),
        "phash": images.phash(pixels), "render_seconds": 0.1, "attempt": 1,
    }  # fmt: skip
    return EncodedPicture(images.encode(pixels, "png"), f"image-{i}.png", values)


def footer(**changes):
    values = {
        "shard": 3, "plan": "p", "attempt_id": "a", "attempt": 1, "finished_at": 1.5, "images": 2,
        "failures": {"image-1": Failure("NAN_LATENTS", "why")}, "constants": {"device": "cpu", "sigmas": [1.0, 0.0]},
    }  # fmt: skip
    return Footer(**{**values, **changes})


def build():
    return shard_file.build(plan_rows(3), [picture(0), None, picture(2)], footer())


def test_good_rows_are_rows_and_failures_stand_in_the_footer():
    table = pq.read_table(io.BytesIO(build()))
    assert table["image_id"].to_pylist() == ["image-0", "image-2"]
    assert table.schema.names == schema.image_schema(EXTRAS).names
    assert table["Category"].to_pylist() == ["x", "x"]
    assert images.decode(table["image"][1].as_py()["bytes"]).shape == (16, 16, 3)
    found = shard_file.read_footer(io.BytesIO(build()))
    assert found == footer()


def test_a_shard_of_failures_only_has_the_full_schema():
    failures = {f"image-{i}": Failure("RENDER_ERROR", "x") for i in range(3)}
    data = shard_file.build(plan_rows(3), [None] * 3, footer(images=0, failures=failures))
    found, table = shard_file.read_facts(io.BytesIO(data))
    assert len(table) == 0
    assert table.schema.field("pixel_sha256").type == pa.string()
    assert found.failures == failures


def test_row_groups_stay_below_the_limit(monkeypatch):
    monkeypatch.setattr(shard_file, "ROW_GROUP_BYTES", 1500)
    assert pq.ParquetFile(io.BytesIO(build())).num_row_groups == 2


def test_pictures_are_stored_as_they_are_and_datasets_knows_the_column():
    file = pq.ParquetFile(io.BytesIO(build()))
    column = file.metadata.row_group(0).column(0)
    assert (column.path_in_schema, column.compression, column.statistics) == ("image.bytes", "UNCOMPRESSED", None)
    assert json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}


def test_assembling_takes_little_more_than_the_file(monkeypatch):
    """Twice its bytes is what is allowed, beside the pictures. Arrow's memory and Python's are counted each."""
    made = [dataclasses.replace(picture(i), data=bytes(4_000_000)) for i in range(16)]
    shard_file.build(plan_rows(1), made[:1], footer(images=1, failures={}))  # what is only loaded once
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        data = shard_file.build(plan_rows(16), made, footer(images=16, failures={}))
        taken = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert len(data) > 64_000_000
    assert taken < 1.5 * len(data), taken / len(data)


def test_what_does_not_read_back_is_not_stored(monkeypatch):
    def damaging(table, footer, largest):
        return original(table.slice(1), footer, largest)

    original = shard_file.to_bytes
    monkeypatch.setattr(shard_file, "to_bytes", damaging)
    with pytest.raises(Infrastructure, match="shard 3 does not read back"):
        build()


def test_a_flipped_byte_is_noticed():
    data = bytearray(build())
    at = data.index(picture(2).data) + len(picture(2).data) // 2
    data[at] ^= 1
    with pytest.raises(OSError, match=r"checksum|CRC"):
        pq.ParquetFile(io.BytesIO(bytes(data)), page_checksum_verification=True).read()


def test_the_seal_covers_every_byte():
    data = build()
    shard_file.check_seal(data)
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(ValueError, match="sha256"):
            shard_file.check_seal(bytes(damaged))


def test_another_parquet_file_is_no_shard():
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), sink)
    with pytest.raises(ValueError, match="not a batchgen shard"):
        shard_file.read_footer(sink)
