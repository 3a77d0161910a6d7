"""Which files a manifest is made of: paths, folders, globs, stores, and what every refusal says."""

import json
import pickle
from pathlib import Path

import fsspec
import pytest

from batchgen.errors import Problem
from batchgen.manifest import lines, parquet
from tests.manifest.files import find, names, problem, problems, write, write_lines


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


def test_another_file_is_not_proposed_for_its_ending(tmp_path):
    write_lines(tmp_path / "dupcol.jsonl", {"prompt": "a cat"})
    assert "Did you mean" not in problem(tmp_path / "nosuch.jsonl").message
    assert "Did you mean dupcol.jsonl?" in problem(tmp_path / "dupcol.csv").message


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
