"""Mistakes 14 to 22: columns, their names and their types."""

from __future__ import annotations

import pyarrow as pa
import pytest


@pytest.mark.parametrize("name", ["Prompt", "caption", "promt"])
def test_14_no_column_prompt(put, refused, name):
    says = f"there is no column 'prompt'. Write input.columns: {{{name}: prompt}}. There are: {name}, url."
    refused(put({name: ["x"], "url": ["u"]}, "a.parquet"), says, where="a.parquet")
    refused(put(f"{name},url\nx,u\n", "a.csv"), says, where="a.csv")


def test_15_two_columns_of_one_name(put, refused, bad_row):
    says = "the column prompt stands twice: give each a name of its own"
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["prompt", "prompt"])
    refused(put(table, "a.parquet"), says, where="a.parquet")
    refused(put("prompt,prompt\nx,y\n", "a.csv"), says, where="a.csv")
    bad_row('{"prompt": "x", "prompt": "y"}', "BAD_JSON", "the key 'prompt' stands twice")


def test_16_columns_of_the_user(put, accepted, refused, bad_row):
    found = accepted(put({"prompt": ["x"], "Quelle": ["web"], "score": [0.5]}, "a.parquet"))
    assert (found.images[0]["Quelle"], found.images[0]["score"]) == ("web", 0.5)
    many = put({"prompt": ["x"]} | {f"c{i}": [i] for i in range(65)}, "many.parquet")
    refused(many, "65 columns of its own, at most 64 pass through. Name those to keep", where="input.keep_columns")
    bad_row({"prompt": "x", "note": "n" * 65_537}, "EXTRAS_TOO_LARGE", "65,537 bytes", "input.keep_columns")


@pytest.mark.parametrize("value", [3, True, {"a": "x"}, ["x"]], ids=str)
def test_17_a_prompt_that_is_no_text(put, refused, bad_row, value):
    refused(put({"prompt": pa.array([value])}, "a.parquet"), "column prompt holds", "write text", where="a.parquet")
    bad_row({"prompt": value}, "BAD_VALUE", "column prompt is", "not text")


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())])
def test_18_every_kind_of_text(put, accepted, kind):
    found = accepted(put({"prompt": pa.array(["a cat", "a cat", "b"]).cast(kind)}, "a.parquet"))
    assert [image["prompt"] for image in found.images] == ["a cat", "a cat", "b"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(1)])
def test_19_a_prompt_of_bytes(put, refused, kind):
    refused(put({"prompt": pa.array([b"x"], kind)}, "a.parquet"), "column prompt holds", "text", where="a.parquet")


def test_20_files_that_disagree(put, refused, tmp_path):
    """For a column with a meaning one of the two is right, so the other alone is named, and told what to write."""
    put({"prompt": ["x"], "num_inference_steps": [4], "score": [1]}, "a.parquet")
    put({"prompt": ["x"], "num_inference_steps": ["4"]}, "b.parquet")
    refused(tmp_path / "in", "column num_inference_steps holds string: write integers", where="b.parquet")
    put({"prompt": ["x"], "score": ["high"]}, "b.parquet")
    refused(tmp_path / "in", "column score holds int64 in a.parquet and string in b.parquet")


def test_21_files_that_agree_in_the_end(put, accepted, tmp_path):
    put({"prompt": ["x"], "seed": pa.array([1], pa.int32()), "score": pa.array([1], pa.int8())}, "a.parquet")
    put({"prompt": ["y"], "score": [2.5]}, "b.parquet")
    first, second = accepted(tmp_path / "in").images
    assert (first["seed"], first["seed_derived"], second["seed_derived"]) == (1, False, True)
    assert (first["score"], second["score"]) == (1.0, 2.5)


def test_22_a_struct_of_parameters(put, accepted):
    """Passes through as JSON text: it is no column of ours, and refusing facts about a prompt helps nobody."""
    [image] = accepted(put({"prompt": ["x"], "params": [{"steps": 3}]}, "a.parquet")).images
    assert (image["params"], image["num_inference_steps"]) == ('{"steps": 3}', 4)
