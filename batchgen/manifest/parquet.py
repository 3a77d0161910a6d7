"""Parquet files of prompts: checked by their footer, divided by row groups, read row group by row group.

Knows bytes and types, not meaning: names are the file's own. Trusts no file: looks at sizes before it decodes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.errors import Infrastructure, Problem, Refused
from batchgen.manifest.columns import FileColumns, is_text, passed_type
from batchgen.manifest.formats import BLOCK, SOURCE_ROWS, Inspected, Source, changed, refuse_doubled
from batchgen.storage.store import Store

MERGED_BYTES = 128 * 2**20  # uncompressed, of small row groups read together
MAX_ROW_GROUP_BYTES = 2**30  # uncompressed; 483 bytes of Parquet can hold 600 MB of text
TAIL = 64 * 2**10  # enough of a footer to see that a file was replaced


def inspect_parquet(store: Store, path: str, name: str, id_column: str, unread: Callable[[str], bool]) -> Inspected:
    """Check a Parquet file by its footer and divide it. unread: columns that will not be decoded.

    Raises Refused where the file is damaged or decodes to more than memory should hold.
    """
    with store.open_file(path) as file:
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
        with _decoding(name):
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            types = _types(parquet, name)
            dropped = [column for column, kind in types.items() if unread(column) or passed_type(kind) is None]
            sizes = list(_row_groups(parquet.metadata, dropped))
            _check_sizes(sizes, name)
            has_ids = id_column in types and _any_valid(compact(file, parquet, [id_column]), id_column)
        version = _parquet_version(file)
    whole = Source(store=store, path=path, name=name, format="parquet", first_row=0, rows=0, version=version)
    return Inspected(FileColumns(name, types), list(_parquet_sources(whole, sizes)), digest.digest(), has_ids)


def _types(parquet: pq.ParquetFile, name: str) -> dict[str, pa.DataType]:
    columns = parquet.schema_arrow
    refuse_doubled(columns.names, name)
    return {field.name: field.type for field in columns}


def _check_sizes(sizes: Iterable[tuple[int, int]], name: str) -> None:
    for group, (_, size) in enumerate(sizes):
        if size > MAX_ROW_GROUP_BYTES:
            message = f"row group {group} holds {size / 2**30:.1f} GiB uncompressed, more than is read at once (1)."
            raise Refused(Problem(f"{message} Write smaller row groups (row_group_size=50000).", name))


def _row_groups(metadata: Any, dropped: list[str]) -> Iterator[tuple[int, int]]:
    """Rows and uncompressed bytes of each row group; in large ones without the columns that are not read.

    Small ones are taken by their total: asking for a column of a damaged footer can end the process (pyarrow 26).
    """
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        size = group.total_byte_size
        if size > MAX_ROW_GROUP_BYTES and group.num_columns == metadata.num_columns:
            columns = [group.column(i) for i in range(group.num_columns)]
            size = sum(leaf.total_uncompressed_size for leaf in columns if not _is_below(leaf.path_in_schema, dropped))
        yield group.num_rows, size


def _is_below(leaf: str, columns: list[str]) -> bool:
    return any(leaf == column or leaf.startswith(column + ".") for column in columns)


def _any_valid(parquet: pq.ParquetFile, column: str) -> bool:
    return any(batch.num_rows > batch.column(0).null_count for batch in parquet.iter_batches(columns=[column]))


def _parquet_version(file: BinaryIO) -> str:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - TAIL))
    return f"{size}:{hashlib.sha256(file.read(TAIL)).hexdigest()}"


def _parquet_sources(whole: Source, sizes: Iterable[tuple[int, int]]) -> Iterator[Source]:
    """Small row groups together, large ones in parts: a task should be neither tiny nor endless."""
    first, open_groups, open_rows, open_bytes = 0, list[int](), 0, 0
    for group, (rows, size) in enumerate(sizes):
        if open_groups and (open_rows + rows > SOURCE_ROWS or open_bytes + size > MERGED_BYTES):
            yield replace(whole, first_row=first - open_rows, rows=open_rows, groups=tuple(open_groups))
            open_groups, open_rows, open_bytes = [], 0, 0
        if rows > SOURCE_ROWS:
            for skip in range(0, rows, SOURCE_ROWS):
                part = min(SOURCE_ROWS, rows - skip)
                yield replace(whole, first_row=first + skip, rows=part, groups=(group,), skip=skip)
        elif rows:
            open_groups.append(group)
            open_rows, open_bytes = open_rows + rows, open_bytes + size
        first += rows
    if open_groups:
        yield replace(whole, first_row=first - open_rows, rows=open_rows, groups=tuple(open_groups))


def read_parquet(source: Source, columns: list[str]) -> pa.Table:
    """The rows of a source, with those of the columns that the file has."""
    with source.store.open_file(source.path) as file:
        if _parquet_version(file) != source.version:
            raise changed(source)
        with _decoding(f"{source.name}, row group {source.groups[0]}"):
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            there = [name for name in columns if name in parquet.schema_arrow.names]
            rows = sum(parquet.metadata.row_group(group).num_rows for group in source.groups)
            parquet = compact(file, parquet, there)
            if rows == source.rows:
                table = parquet.read_row_groups(source.groups, columns=there, use_threads=False).select(there)
            else:
                table = _part(parquet, source, there)
            _check_decoded(table, f"{source.name}, row group {source.groups[0]}")
        return table


def compact(file: BinaryIO, parquet: pq.ParquetFile, columns: list[str]) -> pq.ParquetFile:
    """The same file, whose texts stay dictionaries as they are read: 400 bytes can hold a text 50,000 times."""
    leaves = [parquet.schema.column(i) for i in range(len(parquet.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and _is_below(leaf.path, columns)]
    return pq.ParquetFile(file, metadata=parquet.metadata, read_dictionary=texts, page_checksum_verification=True)


def _check_decoded(table: pa.Table, where: str) -> None:
    """The footer counts a dictionary once; what it decodes to is known only now, before it is decoded."""
    size = sum(_decoded_bytes(chunk) for column in table.columns for chunk in column.chunks)
    if size > MAX_ROW_GROUP_BYTES:
        message = (
            f"decodes to {size / 2**30:.1f} GiB, more than is read at once (1). Its texts are repeated very often: "
        )
        raise Refused(Problem(f"{message}write smaller row groups (row_group_size=1000), or shorter texts.", where))


def _decoded_bytes(values: pa.Array) -> int:
    """Bytes of the texts in dictionaries, each as often as it is used, also inside lists and structs."""
    if pa.types.is_dictionary(values.type):
        if not (is_text(values.type.value_type) or pa.types.is_binary(values.type.value_type)):
            return 0
        lengths = np.asarray(pc.binary_length(values.dictionary.cast(pa.large_binary())).fill_null(0), np.int64)
        used = np.asarray(values.indices.drop_null())
        if len(used) and not 0 <= used.min() <= used.max() < len(lengths):
            raise pa.ArrowInvalid("an index lies outside its dictionary")
        return int(lengths[used].sum())
    if pa.types.is_struct(values.type):
        return sum(map(_decoded_bytes, values.flatten()))
    if pa.types.is_map(values.type):
        return _decoded_bytes(values.keys) + _decoded_bytes(values.items)
    return _decoded_bytes(values.values) if pa.types.is_nested(values.type) else 0


def _part(parquet: pq.ParquetFile, source: Source, columns: list[str]) -> pa.Table:
    """Rows of a large row group. What lies in front of them is decoded and let go, batch by batch."""
    batches, ahead, wanted = [], source.skip, source.rows
    for batch in parquet.iter_batches(row_groups=source.groups, columns=columns, use_threads=False):
        passed = min(ahead, batch.num_rows)
        ahead -= passed
        taken = batch.slice(passed, wanted)
        if taken.num_rows:
            batches.append(taken)
            wanted -= taken.num_rows
        if not wanted:
            break
    return pa.Table.from_batches(batches).select(columns)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Arrow's complaints about bytes are refusals; what the store says keeps its own fate."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise Infrastructure(f"{name} cannot be read ({error}). Run the same command again.") from error
        reason = str(error).strip().split("\n")[0]
        if "decrypt" in reason:
            raise Refused(
                Problem("is encrypted, and batchgen has no keys. Write it without encryption.", name)
            ) from error
        raise Refused(Problem(f"cannot be read as Parquet ({reason}). Write the file again.", name)) from error
