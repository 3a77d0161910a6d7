"""The file of a finished shard: pictures and their rows as Parquet, failures as JSON in its footer.

Knows bytes and tables, not where they lie and not who made the pixels. A file is complete in memory and has been
opened again before anybody may store it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.words import redact

DAMAGED = (ValueError, OSError, pa.ArrowInvalid)  # what a file that is no sound shard of ours raises
FOOTER_KEY = b"batchgen"
# The digest of a file stands in its own footer: taken over all bytes with zeros in its place, then written there. The
# two bytes between key and value are Thrift's (compact protocol): field 2 is binary, 64 bytes long.
SEAL_KEY = "batchgen.sha256"
SEAL_MARK = SEAL_KEY.encode() + b"\x18\x40"
UNSEALED = b"0" * 64
ROW_GROUP_BYTES = 100_000_000  # what the Hugging Face viewer reads at once


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row has no picture. code: a stable upper-case name. message: published, so it holds no credentials."""

    code: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", redact(self.message))


@dataclass(frozen=True, slots=True)
class Footer:
    """What a data file says of itself. failures: image_id → why.

    constants: schema.CONSTANT_FIELDS, and peak_memory_bytes of the renderer so far, for estimates.
    """

    shard: int
    plan: str
    attempt_id: str
    attempt: int
    finished_at: float  # seconds since the epoch, by the renderer's clock
    images: int
    failures: dict[str, Failure]
    constants: dict[str, Any]

    def to_json(self) -> str:
        failures = [{"image_id": key, "code": why.code, "message": why.message} for key, why in self.failures.items()]
        return json.dumps({name: getattr(self, name) for name in self.__slots__} | {"failures": failures})

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> Footer:
        """Raises ValueError for a file that is not a shard of ours."""
        if not metadata or FOOTER_KEY not in metadata:
            raise ValueError("it is not a batchgen shard: its footer names no plan")
        values = json.loads(metadata[FOOTER_KEY])  # a newer version may have written more
        failures = {item["image_id"]: Failure(item["code"], item["message"]) for item in values.pop("failures")}
        known = {name: values[name] for name in cls.__slots__ if name != "failures"}
        return cls(failures=failures, **known)


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A picture ready to be stored: encoded bytes and the values of schema.RENDER_FIELDS."""

    data: bytes
    path: str
    values: dict[str, Any]


def build(rows: pa.Table, pictures: Sequence[EncodedPicture | None], footer: Footer) -> bytes:
    """The bytes of a data file. rows: the shard's plan rows; pictures: one per row, None where the row failed."""
    good = [i for i, item in enumerate(pictures) if item is not None]
    stored = [item for item in pictures if item is not None]
    kept = rows.take(pa.array(good, pa.int64()))
    target = schema.image_schema(schema.extras_of(rows.schema))
    images = pa.array([{"bytes": item.data, "path": item.path} for item in stored], schema.IMAGE_TYPE)
    columns = {"image": images}
    for field in schema.RENDER_FIELDS:
        columns[field.name] = pa.array([item.values[field.name] for item in stored], field.type)
    table = pa.table([columns.get(name, kept[name] if name in kept.column_names else None) for name in target.names],
                     schema=target)  # fmt: skip
    data = to_bytes(table, footer, largest=max((len(item.data) for item in stored), default=1))
    _verify(data, table, footer)
    return data


def to_bytes(table: pa.Table, footer: Footer, largest: int) -> bytes:
    """The file, sealed. Images are uncompressed and without dictionary or statistics: too long for both.

    largest: bytes of the largest picture, which decides how many rows are read at once.
    """
    plain = [field.name for field in table.schema if field.name != "image"]
    sink = pa.BufferOutputStream()
    metadata = {**(table.schema.metadata or {}), FOOTER_KEY: footer.to_json().encode()}
    table = table.replace_schema_metadata(metadata)
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression={"image.bytes": "none", "image.path": "none"} | dict.fromkeys(plain, "zstd"),
        use_dictionary=[name for name in plain if pa.types.is_string(table.schema.field(name).type)],
        write_statistics=plain,
        write_page_checksum=True,
    ) as writer:
        if len(table):  # readers stumble over a row group without rows; a file without row groups is fine
            writer.write_table(table, row_group_size=max(1, ROW_GROUP_BYTES // largest))
        writer.add_key_value_metadata({SEAL_KEY: UNSEALED.decode()})
    data = bytes(sink.getvalue())
    at = _seal_position(data)
    return data[:at] + _digest(data).encode() + data[at + len(UNSEALED) :]


def check_seal(data: bytes) -> None:
    """Raises ValueError if any byte of the file has changed. Parquet's own checksums cover only its pages."""
    at = _seal_position(data)
    if data[at : at + len(UNSEALED)] != _digest(data).encode():
        raise ValueError("its sha256 is not the one in its footer")


def _seal_position(data: bytes) -> int:
    try:
        return data.rindex(SEAL_MARK) + len(SEAL_MARK)
    except ValueError:
        raise ValueError("it is not a batchgen shard: its footer holds no sha256") from None


def _digest(data: bytes) -> str:
    """sha256 over the file with zeros in the place of its seal."""
    at = _seal_position(data)
    found = hashlib.sha256(memoryview(data)[:at])
    found.update(UNSEALED)
    found.update(memoryview(data)[at + len(UNSEALED) :])
    return found.hexdigest()


def _verify(data: bytes, table: pa.Table, footer: Footer) -> None:
    """Open the file, before it is stored, as any reader would. Raises Infrastructure if it is not what was written."""
    check_seal(data)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    found = file.read(["image_id", "pixel_sha256"])
    same = found["image_id"].equals(table["image_id"]) and found["pixel_sha256"].equals(table["pixel_sha256"])
    if not same or Footer.from_metadata(file.schema_arrow.metadata) != footer:
        raise Infrastructure(f"shard {footer.shard} does not read back as it was written. Check this node's memory.")


def read_footer(file: BinaryIO) -> Footer:
    """Raises ValueError where it is not a shard of ours, pyarrow's errors where it is not Parquet."""
    return Footer.from_metadata(pq.ParquetFile(file).schema_arrow.metadata)


def read_facts(file: BinaryIO) -> tuple[Footer, pa.Table]:
    """The footer and all columns but the pictures."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    names = [name for name in parquet.schema_arrow.names if name != "image"]
    return Footer.from_metadata(parquet.schema_arrow.metadata), parquet.read(names)
