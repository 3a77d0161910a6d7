"""What of a good row passes through as it is: columns of another name, whole numbers, the user's own columns."""

import pyarrow as pa
import pyarrow.csv

from tests.expanding import only


def test_columns_are_mapped(expand):
    row = only(
        expand(
            {"caption": ["a cat"], "cfg": [3.0], "prompt": ["old"], "image_id": ["i"]},
            columns={
                "caption": "prompt",
                "cfg": "guidance_scale",
                "prompt": "source_prompt",
                "image_id": "source_image_id",
            },
        )
    )
    assert (row["prompt"], row["guidance_scale"], row["source_prompt"], row["source_image_id"]) == (
        "a cat",
        3.0,
        "old",
        "i",
    )


def test_whole_floats_are_integers(expand):
    table = {"prompt": ["a", "b"], "height": [512.0, None], "width": [512.0, None], "seed": [3.0, None]}
    found = expand(table).to_pylist()
    assert [(row["height"], row["seed_derived"]) for row in found] == [(512, False), (1024, True)]
    assert expand([{"prompt": "a", "height": 512.0, "width": 5.12e2}])["width"].to_pylist() == [512]


def test_extras_pass_through(expand):
    table = {
        "prompt": ["a", "b"],
        "tags": [["x", "y"], None],
        "meta": [{"k": 1}, {"k": None}],
        "when": pa.array([0, None], pa.timestamp("us", "UTC")),
        "kind": pa.array(["p", None]).dictionary_encode(),
        "small": pa.array([1, 2], pa.int8()),
    }
    first, second = expand(table, sampling={"num_images_per_prompt": 1}).to_pylist()
    assert (first["tags"], first["meta"], first["kind"], first["small"]) == ('["x", "y"]', '{"k": 1}', "p", 1)
    assert first["when"].year == 1970
    assert (second["tags"], second["meta"], second["when"], second["kind"]) == (None, '{"k": null}', None, None)


def test_jsonl_extras_pass_through(expand):
    first, second = expand(
        [{"prompt": "a", "x": 1, "y": {"k": "é"}}, {"prompt": "b", "x": "one", "y": None}]
    ).to_pylist()
    assert (first["x"], first["y"]) == ("1", '{"k": "é"}')
    assert (second["x"], second["y"]) == ("one", None)
