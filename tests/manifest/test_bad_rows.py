"""A precise complaint for every bad row, whatever the file holds."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from batchgen.manifest import lines, parquet
from tests.expanding import only, write

BAD = [
    ({"prompt": None}, "NULL_PROMPT", "column prompt is missing: write what the image shows"),
    ({"note": "n"}, "NULL_PROMPT", "column prompt is missing: write what the image shows"),
    ({"prompt": ""}, "EMPTY_PROMPT", "column prompt is blank: write what the image shows"),
    ({"prompt": " \n\u3000"}, "EMPTY_PROMPT", "column prompt is blank: write what the image shows"),
    ({"prompt": 3}, "BAD_VALUE", "column prompt is 3, not text"),
    ({"prompt": ["x"]}, "BAD_VALUE", "column prompt is ['x'], not text"),
    ({"prompt": "\ud800"}, "BAD_UTF8", "column prompt holds bytes that are no UTF-8 text: write it again as UTF-8"),
    ({"prompt": "a\x00b"}, "BAD_CHARS", "column prompt holds the control character '\\x00': take it out"),
    ({"prompt": "a\x1b[31m"}, "BAD_CHARS", "column prompt holds the control character '\\x1b': take it out"),
    (
        {"prompt": "x", "negative_prompt": "\x07"},
        "BAD_CHARS",
        "column negative_prompt holds the control character '\\x07': take it out",
    ),
    (
        {"prompt": "é" * 20_001},
        "PROMPT_TOO_LONG",
        "column prompt has 20,001 characters: write at most 20,000",
    ),
    (
        {"prompt": "x", "prompt_3": "x" * 30_000},
        "PROMPT_TOO_LONG",
        "column prompt_3 has 30,000 characters: write at most 20,000",
    ),
    ({"prompt": "x", "height": 512}, "BAD_SIZE", "column height stands without width: give both, or aspect_ratio"),
    ({"prompt": "x", "width": 512}, "BAD_SIZE", "column width stands without height: give both, or aspect_ratio"),
    ({"prompt": "x", "height": 2**70, "width": 512}, "BAD_SIZE", "which is too large"),
    *(
        ({"prompt": "x", "height": h, "width": w}, "BAD_SIZE", f"column height and width are {h} × {w}: write sides")
        for h, w in [(0, 512), (-512, 512), (64, 64), (100_000, 16), (4096, 4096), (512, 2064), (2**62, 2**62), (1, 1)]
    ),
    ({"prompt": "x", "height": 512.5, "width": 512}, "BAD_VALUE", "column height is 512.5, not an integer"),
    ({"prompt": "x", "height": "512", "width": 512}, "BAD_VALUE", "column height is '512', not an integer"),
    ({"prompt": "x", "height": True, "width": 512}, "BAD_VALUE", "column height is True, not an integer"),
    *(
        ({"prompt": "x", "aspect_ratio": ratio}, "BAD_ASPECT_RATIO", "write width:height from 1:4 to 4:1, such as 16:9")
        for ratio in ["wide", "5:1", "0:1", "1:0", "-1", "", "1:2:3", 0, 4.01, "nan", "1e400", "9" * 100]
    ),
    (
        {"prompt": "x", "aspect_ratio": "1:1", "height": 512, "width": 512},
        "BAD_ASPECT_RATIO",
        "column aspect_ratio stands beside height and width: give either the two or the ratio",
    ),
    ({"prompt": "x", "aspect_ratio": [1]}, "BAD_VALUE", "column aspect_ratio is [1], not text"),
    *(
        ({"prompt": "x", "num_inference_steps": n}, "BAD_STEPS", f"steps is {n}: write integers from 1 to 200")
        for n in (0, -1, 201, 10**9)
    ),
    *(
        ({"prompt": "x", "guidance_scale": g}, "BAD_GUIDANCE", f"scale is {g}: write numbers from 0 to 50.0")
        for g in (float("nan"), float("inf"), -5.0, 50.5)
    ),
    ({"prompt": "x", "skip_layer_guidance_scale": -1.0}, "BAD_GUIDANCE", "column skip_layer_guidance_scale is -1.0"),
    ({"prompt": "x", "guidance_scale": 10**400}, "BAD_GUIDANCE", "which is too large"),
    ({"prompt": "x", "guidance_scale": "7"}, "BAD_VALUE", "column guidance_scale is '7', not a number"),
    ({"prompt": "x", "seed": -1}, "BAD_SEED", "column seed is -1: write integers from 0 to 9223372036854775807"),
    ({"prompt": "x", "seed": 2**63}, "BAD_SEED", "column seed is 9223372036854775808: write integers from 0 to"),
    ({"prompt": "x", "seed": 1e20}, "BAD_SEED", "column seed is 1e+20, too large for a float: write integers"),
    (
        {"prompt": "x", "seed": 2**63 - 1, "num_images_per_prompt": 2},
        "BAD_SEED",
        "which with sample_index passes 9223372036854775807: write its remainder by 2^32, the same noise",
    ),
    *(
        (
            {"prompt": "x", "num_images_per_prompt": n},
            "BAD_NUM_IMAGES",
            f"column num_images_per_prompt is {n}: write integers from 1 to 10000",
        )
        for n in (0, -1, 10_001)
    ),
    ({"prompt": "x", "max_sequence_length": 513}, "BAD_MAX_SEQUENCE_LENGTH", "write integers from 1 to 512"),
    ({"prompt": "x", "max_sequence_length": 0}, "BAD_MAX_SEQUENCE_LENGTH", "write integers from 1 to 512"),
    ({"prompt": "x", "note": "n" * 70_000}, "EXTRAS_TOO_LARGE", "hold 70,000 bytes, at most 65,536 pass through"),
    ({"prompt": "x", "note": ["n" * 70_000]}, "EXTRAS_TOO_LARGE", "leave some out with input.keep_columns"),
    ("not json", "BAD_JSON", "the line is not JSON (Expecting value"),
    ("[1]", "BAD_JSON", "the line is not a JSON object"),
    ('{"prompt": "a", "prompt": "b"}', "BAD_JSON", "the key 'prompt' stands twice"),
    ("[" * 50_000, "BAD_JSON", "nested too deeply"),
    (b'{"prompt": "\xff"}', "BAD_UTF8", "the line is not UTF-8"),
    ('{"prompt": "x", "\\ud800": 1}', "BAD_UTF8", "a key of the line holds half a character"),
    ({"prompt": "x", "note": "\ud800"}, "BAD_UTF8", "column note holds bytes that are no UTF-8 text"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "code", "message"), BAD, ids=[f"{n}-{code}" for n, (_, code, _) in enumerate(BAD)])
def test_bad_rows_of_jsonl(expand, row, code, message):
    table = expand([{"prompt": "good", "note": "n"}, "", row, {"prompt": "also good"}]).to_pylist()
    assert [found["skip_code"] for found in table] == [None, code, None]
    bad = table[1]
    assert message in bad["skip_message"]
    assert ";" not in bad["skip_message"].replace(message, "")  # one thing is wrong, one thing is said
    assert bad["where"] == "a.jsonl, line 3"
    assert (bad["sample_index"], bad["cell"], bad["bucket"], bad["prompt_row"]) == (0, "default", None, 3)
    assert len({found["image_id"] for found in table}) == 3
    assert bad["prompt_id"]
    assert all(bad[name] is None for name in ("height", "seed", "guidance_scale", "tokens_t5"))


def raw_text(*values):
    """A string column with bytes as they are, as a careless writer makes it."""
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(values), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(values))]
    )


@pytest.mark.parametrize(
    ("columns", "code", "message"),
    [
        ({"prompt": raw_text(b"x", b"\xff\xfe", b"y")}, "BAD_UTF8", "column prompt holds bytes that are no UTF-8"),
        ({"note": raw_text(b"x", b"\xff\xfe", b"y")}, "BAD_UTF8", "column note holds bytes"),
        ({"tags": pa.ListArray.from_arrays([0, 1, 2, 3], raw_text(b"x", b"\xff", b"y"))}, "BAD_UTF8", "tags holds"),
        ({"seed": pa.array([1, 2**63, 3], pa.uint64())}, "BAD_SEED", "is 9223372036854775808: write integers from"),
        ({"seed": [1.0, 2.0**53, 3.0]}, "BAD_SEED", "too large for a float: write integers"),
        ({"seed": [1.0, float("nan"), 3.0]}, "BAD_VALUE", "column seed is nan, not an integer"),
        ({"seed": [1.0, 1.5, None]}, "BAD_VALUE", "column seed is 1.5, not an integer"),
        ({"num_inference_steps": [1.0, float("inf"), None]}, "BAD_VALUE", "is inf, not an integer"),
        ({"id": ["a", None, "b"]}, "NULL_ID", "column id is missing, but other rows have one: give every row an id"),
        ({"id": ["a", "x" * 513, "b"]}, "BAD_ID", "column id is longer than 512 bytes: write a shorter one"),
        ({"id": ["a", "b\n", "b"]}, "BAD_ID", "column id is 'b\\n': write text without control characters"),
        ({"id": ["a", "", "b"]}, "BAD_ID", "column id is '': write text without control characters"),
        ({"when": pa.array([[0], [2**62], [0]], pa.list_(pa.timestamp("ms")))}, "BAD_VALUE", "cannot pass through"),
    ],
)  # fmt: skip
def test_bad_rows_of_parquet(expand, columns, code, message):
    table = expand({"prompt": ["x", "y", "z"]} | columns).to_pylist()
    assert [found["skip_code"] for found in table] == [None, code, None]
    assert message in table[1]["skip_message"]
    assert table[1]["where"] == "a.parquet, row 2"


def test_all_that_is_wrong_with_a_row_is_told(manifest):
    written = manifest([{"prompt": "", "height": 3, "width": 3, "seed": -1, "guidance_scale": "x"}])
    row = only(written.table())
    assert row["skip_message"].split("; ") == [
        "column guidance_scale is 'x', not a number",
        "column prompt is blank: write what the image shows",
        "column seed is -1: write integers from 0 to 9223372036854775807",
        f"column height and width are 3 × 3: write {written.expansion.limits}",
    ]
    assert row["skip_code"] == "BAD_VALUE"


def test_bad_rows_are_told_apart_by_what_is_wrong(expand):
    table = expand([{"prompt": "x", "seed": -1}, {"prompt": "x", "seed": -2}, "nope", "nopes", {"prompt": "x"}])
    assert len(set(table["prompt_id"].to_pylist())) == len(set(table["image_id"].to_pylist())) == 5


def test_complaints_do_not_depend_on_the_order_of_columns(expand):
    bad = {"prompt": ["x"], "b": raw_text(b"\xff"), "a": raw_text(b"\xff")}
    messages = {only(expand(rows))["skip_message"] for rows in (bad, dict(reversed(bad.items())))}
    lines = [{"prompt": "x", "b": "\ud800", "a": "\ud800"}]
    messages |= {only(expand(rows))["skip_message"] for rows in (lines, [dict(reversed(lines[0].items()))])}
    assert len(messages) == 1


def test_places_of_later_sources(manifest, monkeypatch):
    monkeypatch.setattr(parquet, "SOURCE_ROWS", 3)
    monkeypatch.setattr(lines, "SOURCE_ROWS", 3)
    written = manifest({"prompt": [*"abcdefg", None]})
    assert written.table()["where"].to_pylist()[-1] == "a.parquet, row 8"
    assert [part["prompt_row"].to_pylist() for part in written.parts()] == [[1, 2, 3], [4, 5, 6], [7, 8]]
    written = manifest([{"prompt": p} for p in "abcd"] + ["", "", {"prompt": "e"}, {"prompt": ""}])
    assert written.table()["where"].to_pylist()[-1] == "a.jsonl, line 8"
    assert [part["prompt_row"].to_pylist() for part in written.parts()] == [[1, 2, 3], [4, 7, 8]]


def test_float_columns_of_other_files_cannot_hold_every_integer(tmp_path, manifest):
    folder = tmp_path / "many"
    folder.mkdir()
    write({"prompt": ["x", "y"], "score": [2**53 + 1, 3]}, folder / "a.parquet")
    write({"prompt": ["x"], "score": [0.5]}, folder / "b.parquet")
    table = next(manifest({"prompt": ["z"], "score": [0.5]}, path=folder / "c.parquet", looked_at=folder).parts())
    assert table["skip_code"].to_pylist() == ["BAD_VALUE", None]
    assert table["score"].to_pylist() == [None, 3.0]


def test_seeds_listed_in_the_job_are_as_many_as_the_images(expand):
    row = only(expand([{"prompt": "x", "num_images_per_prompt": 3}], sampling={"seeds": [1, 2]}))
    assert row["skip_code"] == "BAD_NUM_IMAGES"
    assert "column num_images_per_prompt is 3, but sampling.seeds has 2 entries" in row["skip_message"]
    assert len(expand([{"prompt": "x", "num_images_per_prompt": 3, "seed": 1}], sampling={"seeds": [1, 2]})) == 3
