"""Files divided into sources, and the digest of them all."""

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.manifest import formats, lines, parquet
from tests.manifest.files import find, write, write_lines


def test_row_groups_are_sources_small_ones_together(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SOURCE_ROWS", 10)
    path = write(tmp_path / "a.parquet", {"prompt": [str(i) for i in range(33)]}, row_group_size=4)
    found = find(path).items
    assert [(s.groups, s.first_row, s.rows) for s in found] == [
        ((0, 1), 0, 8),
        ((2, 3), 8, 8),
        ((4, 5), 16, 8),
        ((6, 7, 8), 24, 9),
    ]
    assert read(found) == [str(i) for i in range(33)]


def test_large_row_groups_are_divided(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SOURCE_ROWS", 10)
    path = write(tmp_path / "a.parquet", {"prompt": [str(i) for i in range(37)]}, row_group_size=25)
    found = find(path).items
    assert [(s.groups, s.skip, s.first_row, s.rows) for s in found] == [
        ((0,), 0, 0, 10),
        ((0,), 10, 10, 10),
        ((0,), 20, 20, 5),
        ((1,), 0, 25, 10),
        ((1,), 10, 35, 2),
    ]
    assert read(found) == [str(i) for i in range(37)]


def read(items):
    return [prompt for source in items for prompt in parquet.read_parquet(source, ["prompt"])["prompt"].to_pylist()]


def test_jsonl_is_divided_at_line_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "SOURCE_BYTES", 100)
    rows = [{"prompt": f"cat {i}"} for i in range(40)]
    path = write_lines(tmp_path / "a.jsonl", *rows[:20], "", "", *rows[20:])
    found = find(path).items
    assert len(found) > 5
    assert sum(source.rows for source in found) == 40
    read = [line for source in found for line in lines.read_lines(source)]
    assert [line.record for line in read] == rows
    assert [line.number for line in read] == [*range(1, 21), *range(23, 43)]


def test_a_byte_order_mark_and_a_missing_last_newline(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "b"}')
    assert [line.record["prompt"] for line in lines.read_lines(find(path).items[0])] == ["a", "b"]


def test_the_digest_is_of_bytes_in_order_and_not_of_paths(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, name in ((one, "a"), (two, "z")):
        folder.mkdir()
        write(folder / f"{name}1.parquet", {"prompt": ["x"]})
        write(folder / f"{name}2.parquet", {"prompt": ["y"]})
    assert find(one).digest == find(two).digest
    (two / "z1.parquet").rename(two / "z3.parquet")
    assert find(one).digest != find(two).digest


def test_columns_with_dots_and_prefixes(tmp_path):
    table = {"prompt": ["x"], "a": [{"b": 1}], "a.b": [2], "prompt.x": [3]}
    found = find(write(tmp_path / "a.parquet", table))
    assert [field.name for field in found.extras] == ["a", "a.b", "prompt.x"]
    read = parquet.read_parquet(found.items[0], ["prompt", "a.b"])
    assert read.to_pylist() == [{"prompt": "x", "a.b": 2}]


def test_many_row_groups_are_few_sources(tmp_path):
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, pa.schema([("prompt", pa.string())])) as writer:
        for i in range(2000):
            writer.write_table(pa.table({"prompt": [str(i)]}))
    found = find(path)
    assert (len(found.items), found.rows) == (1, 2000)
    assert formats.SOURCE_ROWS == 50_000
