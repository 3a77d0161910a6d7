"""The file of a finished shard: pictures and their rows as Parquet, failures as JSON in its footer.

Knows bytes and tables, not where they lie and not who made the pixels. A file is complete in memory and has been
opened again before anybody may store it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.run.damage import found_damaged
from batchgen.run.parquet import open_parquet
from batchgen.words import redact

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

    constants: schema.CONSTANT_FIELDS, and peak_memory_bytes of the renderer so far, for estimates. pictures: sha256
    over the encoded pictures, in their order: of those that lost bits in their format nothing else tells whose they
    are. None where an earlier version wrote the file.
    """

    shard: int
    plan: str
    attempt_id: str
    attempt: int
    finished_at: float  # seconds since the epoch, by the renderer's clock
    images: int
    failures: dict[str, Failure]
    constants: dict[str, Any]
    pictures: str | None = field(default=None, compare=False)

    def to_json(self) -> str:
        failures = [{"image_id": key, "code": why.code, "message": why.message} for key, why in self.failures.items()]
        return json.dumps({name: getattr(self, name) for name in self.__slots__} | {"failures": failures})

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> Footer:
        """Raises ValueError for a file that is not a shard of ours."""
        if not metadata or FOOTER_KEY not in metadata:
            raise ValueError("it is not a batchgen shard: its footer names no plan")
        with found_damaged():
            values = json.loads(metadata[FOOTER_KEY])  # a newer version may have written more
            failures = {item["image_id"]: Failure(item["code"], item["message"]) for item in values.pop("failures")}
            known = {name: values[name] for name in cls.__slots__ if name not in ("failures", "pictures")}
            footer = cls(failures=failures, pictures=values.get("pictures"), **known)
            if not footer.is_sane():
                raise ValueError("its footer holds values that no shard has")
        return footer

    def is_sane(self) -> bool:
        """Whether all values are of their types, and numbers what they can be."""
        texts = [self.plan, self.attempt_id, *self.failures]
        texts += [text for why in self.failures.values() for text in (why.code, why.message)]
        counts = (self.shard, self.attempt, self.images)
        return (
            all(isinstance(text, str) for text in texts)
            and all(type(count) is int and 0 <= count < 2**31 for count in counts)
            and math.isfinite(self.finished_at)
            and isinstance(self.constants, dict)
        )


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A picture ready to be stored: encoded bytes and the values of schema.RENDER_FIELDS."""

    data: bytes
    path: str
    values: dict[str, Any]


def build(rows: pa.Table, pictures: Sequence[EncodedPicture | None], footer: Footer) -> bytes:
    """The bytes of a data file. rows: the shard's plan rows; pictures: one per row, None where the row failed.

    Beside the pictures it takes as much memory as the file has bytes, and little more: they are copied once.
    """
    good = [i for i, item in enumerate(pictures) if item is not None]
    stored = [item for item in pictures if item is not None]
    kept = rows.take(pa.array(good, pa.int64()))
    target = schema.image_schema(schema.extras_of(rows.schema))
    columns = {"image": pa.chunked_array([_uncopied(item) for item in stored], schema.IMAGE_TYPE)}
    for one in schema.RENDER_FIELDS:
        columns[one.name] = pa.array([item.values[one.name] for item in stored], one.type)
    table = pa.table([columns.get(name, kept[name] if name in kept.column_names else None) for name in target.names],
                     schema=target)  # fmt: skip
    footer = replace(footer, pictures=digest_of_pictures(table["image"]))
    data = to_bytes(table, footer, largest=max((len(item.data) for item in stored), default=1))
    _verify(data, table, footer)
    return data


def _uncopied(picture: EncodedPicture) -> pa.StructArray:
    """An array of one row over the picture's own bytes. Its pages leave memory before the next one's are made."""
    ends = pa.array([0, len(picture.data)], pa.int32()).buffers()[1]
    data = pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(picture.data)])
    return pa.StructArray.from_arrays([data, pa.array([picture.path])], fields=list(schema.IMAGE_TYPE))


def digest_of_pictures(column: pa.ChunkedArray) -> str:
    """sha256 over the encoded pictures of a table's column `image`, one after the other."""
    found = hashlib.sha256()
    for chunk in column.chunks:
        for data in chunk.field("bytes"):
            found.update(data.as_buffer() or b"")
    return found.hexdigest()


def to_bytes(table: pa.Table, footer: Footer, largest: int) -> bytes:
    """The file, sealed. Images are uncompressed and without dictionary or statistics: too long for both.

    largest: bytes of the largest picture, which decides how many rows are read at once.
    """
    plain = [field.name for field in table.schema if field.name != "image"]
    sink = io.BytesIO()  # grows in place, and gives its bytes away without a copy
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
    with sink.getbuffer() as data:
        at = _seal_position(data)
        data[at : at + len(UNSEALED)] = _digest(data).encode()
    return sink.getvalue()


def check_seal(data: bytes) -> None:
    """Raises ValueError if any byte of the file has changed. Parquet's own checksums cover only its pages."""
    at = _seal_position(data)
    if data[at : at + len(UNSEALED)] != _digest(data).encode():
        raise ValueError("its sha256 is not the one in its footer")


def _seal_position(data: bytes | memoryview) -> int:
    """Parquet's last eight bytes say how long the footer before them is."""
    footer = bytes(data[-8 - int.from_bytes(data[-8:-4], "little") :])
    try:
        return len(data) - len(footer) + footer.rindex(SEAL_MARK) + len(SEAL_MARK)
    except ValueError:
        raise ValueError("it is not a batchgen shard: its footer holds no sha256") from None


def _digest(data: bytes | memoryview) -> str:
    """sha256 over the file with zeros in the place of its seal."""
    at = _seal_position(data)
    found = hashlib.sha256(memoryview(data)[:at])
    found.update(UNSEALED)
    found.update(memoryview(data)[at + len(UNSEALED) :])
    return found.hexdigest()


def _verify(data: bytes, table: pa.Table, footer: Footer) -> None:
    """Open the file, before it is stored, as any reader would. Raises Infrastructure if it is not what was written."""
    check_seal(data)
    file = open_parquet(pa.BufferReader(data))
    found = file.read(["image_id", "pixel_sha256"], use_threads=False)
    same = found["image_id"].equals(table["image_id"]) and found["pixel_sha256"].equals(table["pixel_sha256"])
    if not same or Footer.from_metadata(file.schema_arrow.metadata) != footer:
        raise Infrastructure(f"shard {footer.shard} does not read back as it was written. Check this node's memory.")


def read_footer(file: BinaryIO) -> Footer:
    """Raises what is in damage.DAMAGED where it is not a shard of ours, or no Parquet."""
    with found_damaged():
        return Footer.from_metadata(pq.ParquetFile(file).schema_arrow.metadata)


def read_facts(file: BinaryIO) -> tuple[Footer, pa.Table]:
    """The footer and all columns but the pictures. Raises as read_footer()."""
    with found_damaged():
        parquet = open_parquet(file)
        names = [name for name in parquet.schema_arrow.names if name != "image"]
        return Footer.from_metadata(parquet.schema_arrow.metadata), parquet.read(names, use_threads=False)


def read_whole(data: bytes) -> tuple[Footer, pa.Table]:
    """The footer and all columns of a file whose seal is right. Raises ValueError where it is damaged."""
    check_seal(data)
    with found_damaged():
        parquet = open_parquet(pa.BufferReader(data))
        return Footer.from_metadata(parquet.schema_arrow.metadata), parquet.read(use_threads=False)
