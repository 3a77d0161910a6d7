"""Columns of a manifest's files: ours by name and type, the user's own unified, and what every refusal says."""

import numpy as np
import pyarrow as pa
import pytest

from batchgen.errors import Problem, Refused
from batchgen.job.file import job_from
from batchgen.manifest.sources import find_sources, refuse_swept_columns
from tests.manifest.files import find, problem, problems, write, write_lines


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
