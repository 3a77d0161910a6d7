"""Mistakes 1 to 13 and 23 to 29: files. None of them is a row's fault, so `skip` changes nothing."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest

from batchgen.manifest import parquet, sources
from tests.mistakes.outcome import look, write
from tests.test_storage import nobody

CATS = {"prompt": ["a cat", "a dog"]}


def test_01_a_path_that_is_not_there(put, job, refused, command, tmp_path):
    put(CATS, "prompts.parquet")
    path = tmp_path / "in" / "promts.parquet"
    refused(path, "there is no such file or folder", "Did you mean prompts.parquet?", where=f"input.path {path}")
    command(job(path), "Did you mean prompts.parquet?")


@pytest.mark.parametrize("pattern", ["*.parquet", "**/*.csv", ""])
def test_02_a_path_that_matches_no_file(put, refused, tmp_path, pattern):
    put("x", "_hidden.jsonl")
    refused(tmp_path / "in" / pattern, where="input.path")


@pytest.mark.parametrize("closed", ["prompts.parquet", "."])
def test_03_a_file_that_may_not_be_read(job, closed):
    """The principal is named: the user here, the shortened key for S3 (tests/storage/test_s3_mistakes.py)."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        os.chmod(folder, 0o755)
        path = write(Path(folder, "prompts.parquet"), CATS)
        Path(folder, closed).chmod(0)
        with nobody():
            user = os.geteuid()
            [problem] = look(job(path, output={"path": "/nowhere/run"})).problems
        Path(folder, closed).chmod(0o755)
    assert problem.where == "input.path"
    assert str(path) in problem.message
    assert f"permission denied for user {user}. Give this user the right to do it" in problem.message


def test_04_other_files_in_a_folder(put, refused, accepted, tmp_path):
    for name in ("a.parquet", "_SUCCESS", ".a.crc"):
        put(CATS, name)
    assert len(accepted(tmp_path / "in").images) == 2
    put("notes", "notes.md")
    put("photo", "photo.png")
    refused(tmp_path / "in", "notes.md, photo.png", "Move them away, or write", "*.parquet", where="input.path")


@pytest.mark.parametrize("name", ["prompts.parquet", "prompts.jsonl", "prompts.csv"])
def test_05_an_empty_file(put, job, refused, command, name):
    path = put(b"", name)
    refused(path, "the file is empty (0 bytes). Write it again, or leave it out.", where=name)
    command(job(path), name)


def damaged(put, change):
    path = put(CATS, "prompts.parquet")
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize("kept", [4, 12, 100, -20, -4])
def test_06_a_file_that_ends_early(put, refused, kept):
    refused(damaged(put, lambda data: data[:kept]), "cannot be read as Parquet", "again", where="prompts.parquet")


@pytest.mark.parametrize("length", [0, 2**31 - 1, 2**31, 2**32 - 1])
def test_07_a_footer_that_lies_about_its_length(put, refused, length):
    change = lambda data: data[:-8] + length.to_bytes(4, "little") + data[-4:]  # noqa: E731
    refused(damaged(put, change), "cannot be read as Parquet", "Write the file again", where="prompts.parquet")


def corrupt(put, name="prompts.parquet"):
    """A footer that is sound and a page that is not."""
    path = put({"prompt": [f"cat {i}" for i in range(500)]}, name, use_dictionary=False)
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes(200) + data[300:])
    return path


def test_08_a_corrupt_page(put, job, refused, command):
    path = corrupt(put)
    refused(path, "cannot be read as Parquet", "Write the file again", where="prompts.parquet, row group 0")
    command(job(path), "prompts.parquet, row group 0")


def test_08_a_corrupt_page_hides_no_other_problem(put, outcome, tmp_path):
    """Found while rows are read, one piece after the other: what is wrong with the other pieces is told as well."""
    corrupt(put, "a.parquet")
    put({"prompt": ["x", None], "id": ["1", "2"]}, "b.parquet")
    corrupt(put, "c.parquet")
    for policy, places in {"refuse": ["a", "b", "c"], "skip": ["a", "c"]}.items():
        found = outcome(tmp_path / "in", policy)
        told = [problem.where[0] for problem in found.problems if problem.code in ("DAMAGED", "NULL_PROMPT")]
        assert told == places, found.refusal


def test_09_a_bit_that_only_the_page_checksum_knows(put, refused):
    path = put(CATS, "prompts.parquet", write_page_checksum=True, compression="none")
    path.write_bytes(path.read_bytes().replace(b"a cat", b"a rat", 1))
    refused(path, "cannot be read as Parquet", where="prompts.parquet, row group 0")


@pytest.mark.parametrize("content", [b"prompt\na cat\n", b'{"prompt": "a cat"}\n' * 5, b"PAR1", b"<html></html>"])
def test_10_another_format_under_the_name_of_parquet(put, refused, content):
    refused(put(content, "prompts.parquet"), "cannot be read as Parquet", where="prompts.parquet")


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.csv"])
def test_10_parquet_under_another_name(put, refused, name):
    refused(put(put(CATS, "a.parquet").read_bytes(), name), where=name)


class Keys(encryption.KmsClient):
    def wrap_key(self, key, name):
        return base64.b64encode(key)


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_11_encrypted(tmp_path, refused, plaintext_footer):
    settings = encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["prompt"]}, plaintext_footer=plaintext_footer
    )
    factory = encryption.CryptoFactory(lambda _: Keys())
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    table, path = pa.table(CATS), tmp_path / "secret.parquet"
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    refused(path, "is encrypted, and batchgen has no keys. Write it without encryption.", where="secret.parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.parquet", {"prompt": pa.array([], pa.string())}), ("a.csv", "prompt,seed\n"), ("a.jsonl", "\n\n")],
)
def test_12_no_rows(put, accepted, name, content):
    """An empty dataset, with a warning; that it gets its _SUCCESS is tested with Ray, in tests/render."""
    found = accepted(put(content, name))
    assert (found.images, found.notices) == ([], ["The manifest has no rows: the dataset will be empty."])


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv"])
def test_13_one_row(put, accepted, name):
    content = {"a.parquet": {"prompt": ["a cat"]}, "a.jsonl": [{"prompt": "a cat"}], "a.csv": "prompt\na cat\n"}[name]
    assert [image["prompt"] for image in accepted(put(content, name)).images] == ["a cat"]


def test_23_large_row_groups(put, accepted, refused, monkeypatch):
    monkeypatch.setattr(parquet, "SOURCE_ROWS", 10)
    path = put({"prompt": [f"cat {i}" for i in range(37)]}, "a.parquet", row_group_size=37)
    found = accepted(path)
    assert len(found.prepared.sources.items) == 4
    assert [image["prompt"] for image in found.images] == [f"cat {i}" for i in range(37)]
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP_BYTES", 300)
    refused(path, "row group 0 holds", "Write smaller row groups", where="a.parquet")


BOMB = pa.DictionaryArray.from_arrays(pa.array(np.zeros(49_000, np.int32)), pa.array(["x" * 10**6]))


@pytest.mark.parametrize(
    "table",
    [
        {"prompt": BOMB},
        {"id": BOMB, "prompt": ["x"] * len(BOMB)},
        {"prompt": ["x"] * len(BOMB), "facts": pa.StructArray.from_arrays([BOMB], ["a"])},
        {
            "prompt": ["x"] * len(BOMB),
            "tags": pa.ListArray.from_arrays(pa.array(range(len(BOMB) + 1), pa.int32()), BOMB),
        },
    ],
    ids=["prompt", "id", "struct", "list"],
)
def test_24_a_decompression_bomb(put, refused, table):
    """400 bytes, of which the footer says that they are a megabyte, and which decode to 49 GB."""
    path = put(table, "bomb.parquet", compression="zstd")
    assert path.stat().st_size < 4000
    refused(path, "decodes to 45.6 GiB", "write smaller row groups", where="bomb.parquet, row group 0")


def test_24_a_bomb_that_the_footer_tells(put, refused, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP_BYTES", 2**20)
    path = put({"prompt": ["x" * 2**21]}, "bomb.parquet", compression="zstd", use_dictionary=False)
    monkeypatch.setattr(parquet, "compact", None)  # nothing is decoded
    refused(path, "row group 0 holds 0.0 GiB uncompressed", where="bomb.parquet")


def test_25_very_many_files(put, accepted, monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "MANY_FILES", 3)
    for number in range(4):
        put([{"prompt": f"cat {number}"}], f"{number}.jsonl")
    found = accepted(tmp_path / "in")
    assert found.notices == ["The manifest has 4 files. Fewer and larger ones are planned much faster."]
    assert [image["prompt"] for image in found.images] == [f"cat {number}" for number in range(4)]


def test_26_links(put, accepted, tmp_path):
    """Followed, in Ray jobs as well: batchgen reads with the rights of who runs it, and who can lay a link there could

    lay the file itself. Links to folders are not followed: they may lead in circles.
    """
    outside = write(tmp_path / "elsewhere" / "a.jsonl", [{"prompt": "from elsewhere"}])
    put([{"prompt": "from here"}], "b.jsonl")
    (tmp_path / "in" / "a.jsonl").symlink_to(outside)
    (tmp_path / "in" / "more").symlink_to(outside.parent, target_is_directory=True)
    assert [image["prompt"] for image in accepted(tmp_path / "in").images] == ["from elsewhere", "from here"]


def test_27_pipes_and_devices(put, refused, accepted, tmp_path):
    says = "it is a pipe or a device. Write what comes out of it to a file, and name that."
    put([{"prompt": "x"}], "a.jsonl")
    os.mkfifo(tmp_path / "in" / "pipe.jsonl")
    (tmp_path / "in" / "zero.parquet").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "zero.parquet"):
        refused(tmp_path / "in" / name, says, name, where="input.path")
    assert len(accepted(tmp_path / "in").images) == 1


def test_28_a_manifest_inside_the_output(job, command, tmp_path):
    path = write(tmp_path / "run" / "prompts" / "a.parquet", CATS)
    for inside in (path, path.parent, f"{path.parent}/*.parquet"):
        command(job(inside), "lies inside output.path", "Write the output somewhere else")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv"])
def test_29_a_manifest_that_changes_meanwhile(put, outcome, name):
    def content(prompt):
        return {"a.parquet": {"prompt": [prompt]}, "a.jsonl": [{"prompt": prompt}], "a.csv": f"prompt\n{prompt}\n"}[
            name
        ]

    for policy in ("refuse", "skip"):
        path = put(content("one"), name)
        found = outcome(path, policy, between=lambda: put(content("two"), name))
        assert "the file changed while it was being planned. Run the same command again" in str(found.refusal)
        assert found.problems[0].where.startswith(name)
