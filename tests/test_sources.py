"""Finding, checking and dividing manifests: what is accepted, and what every refusal says."""

import json
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import Problem, Refused
from batchgen.job import Input
from batchgen.job.file import job_from
from batchgen.manifest import formats, lines, parquet
from batchgen.manifest.sources import find_sources, refuse_swept_columns


def write(path, table=None, **options):
    """A Parquet file; by default one with a single prompt."""
    pq.write_table(pa.table({"prompt": ["a cat"]} if table is None else table), path, **options)
    return path


def write_lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def find(path, **options):
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return find_sources(Input(path=paths, **options))


def problems(path, **options):
    with pytest.raises(Refused) as error:
        find(path, **options)
    return list(error.value.problems)


def problem(path, **options):
    [only] = problems(path, **options)
    return only


def names(sources):
    return [source.name for source in sources.items]


# Listing


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".ndjson", ".json"])
def test_one_file(tmp_path, suffix):
    path = tmp_path / f"prompts{suffix}"
    write(path) if suffix == ".parquet" else write_lines(path, {"prompt": "a cat"})
    found = find(path)
    assert (names(found), found.rows, found.columns, found.own_ids) == ([path.name], 1, ["prompt"], False)
    assert pickle.loads(pickle.dumps(found.items[0])) is not None


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path):
    for name in ("b.parquet", "a.parquet", "_SUCCESS", ".c.parquet", "sub/c.parquet", "_old/d.parquet", "sub/_x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name)
    assert names(find(tmp_path)) == ["a.parquet", "b.parquet", "sub/c.parquet"]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.parquet", ["a1.parquet", "a2.parquet", "b1.parquet"]),
        ("a?.parquet", ["a1.parquet", "a2.parquet"]),
        ("[ab]1.parquet", ["a1.parquet", "b1.parquet"]),
        ("[!a]1.parquet", ["b1.parquet"]),
        ("**/*.parquet", ["a1.parquet", "a2.parquet", "b1.parquet", "s/c.parquet", "s/t/d.parquet"]),
        ("*/c.parquet", ["c.parquet"]),
        ("s/**", ["c.parquet", "t/d.parquet"]),
    ],
)
def test_globs(tmp_path, pattern, matched):
    for name in ("a1", "a2", "b1", ".hidden", "s/c", "s/t/d", "s/.git/e"):
        (tmp_path / f"{name}.parquet").parent.mkdir(exist_ok=True, parents=True)
        write(tmp_path / f"{name}.parquet")
    assert names(find(f"{tmp_path}/{pattern}")) == matched


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    assert names(find(write(tmp_path / "prompts[1].parquet"))) == ["prompts[1].parquet"]


def test_a_list_of_paths_is_one_manifest_without_doubles(tmp_path):
    paths = [write(tmp_path / "b.parquet"), write(tmp_path / "a.parquet"), f"{tmp_path}/*.parquet"]
    assert names(find(paths)) == ["a.parquet", "b.parquet"]


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.parquet"))
    assert names(find("a.parquet")) == names(find("*.parquet")) == names(find(".")) == ["a.parquet"]
    assert find("a.parquet").items[0].store.url == str(tmp_path)


def test_any_file_system(tmp_path):
    memory = fsspec.filesystem("memory")
    data = write(tmp_path / "a.parquet").read_bytes()
    try:
        memory.pipe("/bucket/a.parquet", data)
        memory.pipe("/bucket/b.parquet", data)
        for path in ("memory://bucket/a.parquet", "memory://bucket/*.parquet", "memory://bucket"):
            assert names(find(path))[0] == "a.parquet"
        assert find("memory://bucket/a.parquet").digest == find(tmp_path / "a.parquet").digest
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path / "prompts.parquet")
    found = problem(tmp_path / "promts.parquet")
    assert found.where == f"input.path {tmp_path}/promts.parquet"
    assert found.message == (
        f"there is no such file or folder. Looked for promts.parquet in {tmp_path}. Did you mean prompts.parquet?"
    )


def test_a_glob_without_matches_says_where_it_looked(tmp_path):
    assert problem(tmp_path / "*.jsonl").message == f"no file matches. Looked for *.jsonl in {tmp_path}."


def test_an_empty_folder(tmp_path):
    (tmp_path / "_logs").mkdir()
    write(tmp_path / "_logs" / "a.parquet")
    assert "holds no Parquet, JSONL, CSV, TSV or TXT file" in problem(tmp_path).message


@pytest.mark.parametrize("name", ["prompts.xlsx", "prompts", "prompts.gz", "prompts.parquet.gz", "prompts.csv.xz"])
def test_other_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("prompt\na cat\n")
    assert f"{name} is no Parquet, JSONL, CSV, TSV or TXT file" in problem(tmp_path / name).message


def test_no_path_at_all():
    assert problem([]) == Problem("is empty. Name a file, a folder or a glob.", "input.path")


def test_all_problems_are_told_at_once(tmp_path):
    (tmp_path / "empty.parquet").write_bytes(b"")
    write(tmp_path / "text.parquet", {"caption": ["x"]})
    write(tmp_path / "number.parquet", {"prompt": [3]})
    found = problems([tmp_path / "*.parquet", tmp_path / "missing.jsonl"])
    assert [p.where for p in found] == [
        f"input.path {tmp_path}/missing.jsonl",
        "empty.parquet",
        "number.parquet",
        "text.parquet",
    ]


# Damaged files


def test_columns_that_are_not_read_are_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP_BYTES", 2**20)
    images = [{"bytes": b"x" * 20_000, "path": "p"}] * 100
    table = {"prompt": ["x"] * 100, "photo": images, "raw": [b"x" * 20_000] * 100, "text": ["y" * 20_000] * 100}
    path = write(tmp_path / "a.parquet", table, use_dictionary=False)
    assert find(path, keep_columns=[]).rows == 100
    assert find(write(tmp_path / "b.parquet", {**table, "text": ["y"] * 100}, use_dictionary=False)).rows == 100
    assert "GiB uncompressed" in problem(path).message


def test_json_that_is_no_jsonl(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": "a"}], indent=1))
    assert "no line is a JSON object" in problem(path).message


def test_an_endless_line(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1000)
    path = write_lines(tmp_path / "a.jsonl", {"prompt": "a"}, {"prompt": "x" * 2000})
    assert problem(path).where == "a.jsonl, line 2"


# Columns


def test_a_missing_prompt_names_the_likely_column(tmp_path):
    path = write(tmp_path / "a.parquet", {"url": ["u"], "Caption": ["x"]})
    assert problem(path) == Problem(
        "there is no column 'prompt'. Write input.columns: {Caption: prompt}. There are: url, Caption.", "a.parquet"
    )
    assert find(path, columns={"Caption": "prompt"}).columns == ["prompt"]


@pytest.mark.parametrize("name", ["Prompt", "prompts", "text", "promt"])
def test_likely_prompt_columns(tmp_path, name):
    path = write_lines(tmp_path / "a.jsonl", {"width": 512, name: "x"})
    assert f"{{{name}: prompt}}" in problem(path).message


def test_a_prompt_missing_in_one_file(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", {"text": ["x"]})
    assert problem(tmp_path).where == "b.parquet"


def test_mapped_and_kept_columns_must_exist(tmp_path):
    path = write(tmp_path / "a.parquet", {"prompt": ["x"], "steps": [3]})
    found = problems(path, columns={"step": "num_inference_steps"}, keep_columns=["scoer", "steps"])
    assert [p.where for p in found] == ["input.columns", "input.keep_columns"]
    assert "no file has a column 'step'. Did you mean steps?" in found[0].message


@pytest.mark.parametrize(
    ("column", "values", "wanted"),
    [
        ("prompt", pa.array([1]), "text (a string column)"),
        ("prompt", pa.array([b"x"]), "text (a string column)"),
        ("prompt", pa.array([["x"]], pa.list_(pa.field("element", pa.string()))), "text (a string column)"),
        ("prompt", pa.array([{"a": "x"}]), "text (a string column)"),
        ("prompt", pa.array([True]), "text (a string column)"),
        ("negative_prompt", pa.array([1.5]), "text (a string column)"),
        ("height", pa.array(["1024"]), "integers"),
        ("height", pa.array([True]), "integers"),
        ("seed", pa.array(["7"]), "integers"),
        ("guidance_scale", pa.array(["7"]), "numbers"),
        ("id", pa.array([1.5]), "text or integers"),
        ("aspect_ratio", pa.array([True]), "text such as 16:9, or numbers"),
    ],
)
def test_wrong_types_of_our_columns(tmp_path, column, values, wanted):
    path = write(tmp_path / "a.parquet", {"prompt": pa.array(["x"])} | {column: values})
    assert problem(path).message == f"column {column} holds {values.type}: write {wanted}."


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.null()])
def test_all_kinds_of_integers_are_sizes(tmp_path, kind):
    table = {"prompt": ["x"], "height": pa.array([None], kind)}
    assert find(write(tmp_path / "a.parquet", table)).columns == ["prompt", "height"]


def test_a_mapping_onto_a_column_that_is_there(tmp_path):
    path = write(tmp_path / "a.parquet", {"prompt": ["x"], "caption": ["y"]})
    assert "{caption: prompt, prompt: source_prompt}" in problem(path, columns={"caption": "prompt"}).message
    found = find(path, columns={"caption": "prompt", "prompt": "source_prompt"})
    assert [field.name for field in found.extras] == ["source_prompt"]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.string(), pa.large_string(), pa.string()),
        (pa.null(), pa.timestamp("us"), pa.timestamp("us")),
        (pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.string()),
        (pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.string()),
    ],
)
def test_types_that_unify(tmp_path, one, other, together):
    for name, kind in (("a", one), ("b", other)):
        write(tmp_path / f"{name}.parquet", {"prompt": ["x"], "extra": pa.array([None], kind)})
    assert find(tmp_path).extras == [pa.field("extra", together)]


def test_optional_columns_may_be_missing_in_some_files(tmp_path):
    write(tmp_path / "a.parquet", {"prompt": ["x"], "seed": [1], "note": ["n"]})
    write(tmp_path / "b.parquet", {"prompt": ["x"], "score": [0.5]})
    found = find(tmp_path)
    assert found.columns == ["prompt", "seed"]
    assert [field.name for field in found.extras] == ["note", "score"]


# Extras


def test_binary_columns_are_dropped_with_a_notice(tmp_path):
    table = {"prompt": ["x"], "image": pa.array([{"bytes": b"x", "path": "p"}]), "raw": [b"x"]}
    found = find(write(tmp_path / "a.parquet", table), columns={"image": "source_image"})
    assert found.extras == []
    assert found.notices == [
        "Column source_image is binary and does not pass through.",
        "Column raw is binary and does not pass through.",
    ]
    assert "which cannot pass through" in problem(tmp_path, keep_columns=["raw"]).message


def test_extras_with_names_of_ours_say_what_to_write(tmp_path):
    path = write(tmp_path / "a.parquet", {"prompt": ["x"], "image_id": ["i"], "note": ["n"]})
    assert problem(path) == Problem(
        "column image_id has a name that batchgen uses. Write input.columns: {image_id: source_image_id} to rename it, "
        "or input.keep_columns: [note] to leave it out.",
        "input.columns",
    )
    assert [f.name for f in find(path, columns={"image_id": "source_image_id"}).extras] == ["source_image_id", "note"]
    assert [f.name for f in find(path, keep_columns=["note"]).extras] == ["note"]


@pytest.mark.parametrize("name", ["bucket", "where", "prompt_row", "seed_derived", "shard", "status", "pixel_sha256"])
def test_names_of_every_table_are_reserved(tmp_path, name):
    assert (
        "has a name that batchgen uses" in problem(write(tmp_path / "a.parquet", {"prompt": ["x"], name: [1]})).message
    )


def test_at_most_64_extras(tmp_path):
    table = {"prompt": ["x"]} | {f"c{i}": [i] for i in range(65)}
    path = write(tmp_path / "a.parquet", table)
    assert "has 65 columns of its own, at most 64" in problem(path).message
    assert len(find(path, keep_columns=[f"c{i}" for i in range(64)]).extras) == 64


def test_a_column_that_may_be_meant_as_ours_is_mentioned(tmp_path):
    found = find(write(tmp_path / "a.parquet", {"prompt": ["x"], "negativ_prompt": ["y"]}))
    assert "write input.columns: {negativ_prompt: negative_prompt}" in found.notices[0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True], pa.bool_()),
        ([True, 1], pa.string()),
        ([1, "x"], pa.string()),
        ([None], pa.string()),
        ([{"a": 1}, 3], pa.string()),
        ([2**60, 1], pa.int64()),
        ([2**60, 0.5], pa.string()),
        ([2**70], pa.string()),
    ],
)
def test_types_of_jsonl_extras(tmp_path, values, kind):
    path = write_lines(tmp_path / "a.jsonl", *({"prompt": "x", "extra": value} for value in values))
    assert find(path).extras == [pa.field("extra", kind)]


def test_jsonl_and_parquet_together(tmp_path):
    write_lines(tmp_path / "a.jsonl", {"prompt": "x", "score": 1, "tags": ["a"]})
    write(tmp_path / "b.parquet", {"prompt": ["x"], "score": [0.5], "tags": [["a"]]})
    assert [field.type for field in find(tmp_path).extras] == [pa.float64(), pa.string()]
    write(tmp_path / "b.parquet", {"prompt": ["x"], "score": pa.array([None], pa.decimal128(9, 2))})
    assert "column score holds" in problem(tmp_path).message


def test_own_ids_means_that_some_row_has_one(tmp_path):
    for ids, own in (([None, None], False), ([None, "x"], True)):
        write(tmp_path / "a.parquet", {"prompt": ["x", "y"], "key": pa.array(ids, pa.string())})
        found = find(tmp_path, columns={"key": "id"})
        assert (found.own_ids, {source.own_ids for source in found.items}) == (own, {own})
    write(tmp_path / "b.parquet", {"prompt": ["z"]})
    assert {source.own_ids for source in find(tmp_path, columns={"key": "id"}).items} == {True}


# Division and digest


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


# Sweeps


@pytest.mark.parametrize(
    ("column", "axis", "where"),
    [
        ("guidance_scale", {"guidance_scale": [1.0]}, "sweep.guidance_scale"),
        ("aspect_ratio", {"height": [512]}, "sweep.height"),
        ("score", {"height": [512]}, None),
    ],
)
def test_swept_columns_are_refused(tmp_path, column, axis, where):
    path = write(tmp_path / "a.parquet", {"prompt": ["x"], column: np.array([1.0])})
    job = job_from({"input": {"path": str(path)}, "output": {"path": "out"}, "sweep": axis})
    sources = find_sources(job.input)
    if where is None:
        refuse_swept_columns(job, sources)
        return
    with pytest.raises(Refused) as error:
        refuse_swept_columns(job, sources)
    assert error.value.problems[0].where == where
