"""One prompt row → image rows: values, order, cells and samples, tables of bounded size."""

import pyarrow as pa
import pyarrow.csv

from batchgen.columns import SHARED
from batchgen.rows import identity
from batchgen.rows.buckets import Bucket
from tests.expanding import DIGEST, only


def test_a_row_takes_what_it_does_not_say_from_the_job(expand):
    row = only(expand([{"prompt": "a cat", "guidance_scale": 3}], sampling={"num_inference_steps": 28}))
    assert row["image_id"] == identity.image_id(
        row["prompt_id"],
        0,
        "default",
        {
            "prompt": "a cat",
            "negative_prompt": "",
            "height": 1024,
            "width": 1024,
            "num_inference_steps": 28,
            "guidance_scale": 3.0,
            "skip_layer_guidance_scale": 0.0,
            "max_sequence_length": 256,
            "seed": row["seed"],
            "model_digest": DIGEST,
            "dtype": "bfloat16",
        },
    )
    assert row["prompt_id"] == identity.content_prompt_id({"prompt": "a cat", "guidance_scale": 3.0})
    assert row["seed"] == identity.derive_seed(0, row["prompt_id"], 0)
    assert (row["seed_derived"], row["sample_index"], row["cell"], row["prompt_row"]) == (True, 0, "default", 1)
    assert (row["prompt"], row["prompt_2"], row["negative_prompt"]) == ("a cat", None, "")
    assert row["bucket"] == "1024x1024 steps=28 guidance=on slg=off t5=256"
    assert (row["tokens_clip_l"], row["overflow_t5"], row["truncated_t5"]) == (4, False, None)
    assert all(row[name] is None for name in ("skip_code", "skip_message", "where", "batch_size", "shard"))


def test_a_row_overrides_the_job(expand):
    said = {
        "prompt": "a cat",
        "negative_prompt": "ugly",
        "prompt_2": "two",
        "prompt_3": "three",
        "seed": 7,
        "height": 512,
        "width": 768,
        "num_inference_steps": 30,
        "guidance_scale": 2.5,
        "skip_layer_guidance_scale": 2.8,
        "max_sequence_length": 64,
    }
    row = only(expand([said | {"num_images_per_prompt": 1}]))
    assert {name: row[name] for name in said} == said
    assert not row["seed_derived"]
    assert row["bucket"] == "512x768 steps=30 guidance=on slg=7,8,9@0.01-0.2 t5=64"


def test_null_says_nothing_and_an_empty_negative_prompt_says_none(expand):
    table = expand(
        [{"prompt": "x", "negative_prompt": None, "height": None}, {"prompt": "x", "negative_prompt": ""}],
        sampling={"negative_prompt": "ugly"},
    )
    assert table["negative_prompt"].to_pylist() == ["ugly", ""]
    assert table["height"].to_pylist() == [1024, 1024]


def test_an_empty_second_prompt_is_none(expand):
    assert only(expand([{"prompt": "x", "prompt_2": "", "prompt_3": " "}]))["prompt_2"] is None


def test_skip_layer_guidance_needs_guidance(expand):
    table = expand(
        [{"prompt": "x", "guidance_scale": 1.0}, {"prompt": "x", "guidance_scale": 1.1}],
        sampling={"skip_layer_guidance_scale": 2.8},
    )
    assert table["skip_layer_guidance_scale"].to_pylist() == [0.0, 2.8]


def test_skip_layer_guidance_needs_layers(expand):
    rows = [{"prompt": "x", "skip_layer_guidance_scale": 2.8}, {"prompt": "x", "skip_layer_guidance_scale": 0}]
    first, second = expand(rows, model={"preset": "sd3.5-large"}).to_pylist()
    assert (first["skip_code"], second["skip_code"]) == ("BAD_GUIDANCE", None)
    assert "write sampling.skip_guidance_layers" in first["skip_message"]
    assert only(expand(rows[:1], model={"preset": "sd3.5-large"}, sampling={"skip_guidance_layers": [7]}))["bucket"]


def test_rows_come_cell_by_cell_and_sample_by_sample(expand):
    table = expand(
        [{"prompt": "a"}, {"prompt": ""}, {"prompt": "b", "num_images_per_prompt": 1}],
        sampling={"num_images_per_prompt": 2},
        sweep={"guidance_scale": [1.0, 4.5]},
    )
    found = [(r["prompt_row"], r["cell"], r["sample_index"], r["guidance_scale"]) for r in table.to_pylist()]
    assert found == [
        (1, "guidance_scale=1.0", 0, 1.0),
        (1, "guidance_scale=1.0", 1, 1.0),
        (1, "guidance_scale=4.5", 0, 4.5),
        (1, "guidance_scale=4.5", 1, 4.5),
        (2, "default", 0, None),
        (3, "guidance_scale=1.0", 0, 1.0),
        (3, "guidance_scale=4.5", 0, 4.5),
    ]


def test_cells_share_their_seeds_and_nothing_else(expand):
    sweep = {"guidance_scale": [1.0, 4.5], "negative_prompt": ["", "ugly"], "max_sequence_length": [16, 256]}
    table = expand([{"prompt": "a cat " * 20}], sampling={"num_images_per_prompt": 3}, sweep=sweep).to_pandas()
    assert len(table) == 24
    assert table.groupby("sample_index")["seed"].nunique().tolist() == [1, 1, 1]
    assert table["image_id"].nunique() == 24
    assert set(table.loc[table.cell.str.contains("ugly"), "negative_prompt"]) == {"ugly"}
    assert table.groupby("max_sequence_length")["overflow_t5"].agg(["min", "max"]).to_numpy().tolist() == [
        [True, True],
        [False, False],
    ]


def test_swept_sizes_and_negatives_overflow_for_their_cell_only(expand):
    sweep = {"height": [512, 1024], "negative_prompt": ["", "ugly " * 90], "guidance_scale": [1.0, 3.0]}
    for row in expand([{"prompt": "a"}], sweep=sweep).to_pylist():
        assert row["height"] == (512 if "height=512" in row["cell"] else 1024)
        assert row["negative_overflow"] == ("ugly" in row["cell"] and row["guidance_scale"] > 1)


def test_the_bucket_column_is_the_key_of_the_row(manifest):
    written = manifest(
        [{"prompt": "a", "height": 512, "width": 768, "guidance_scale": g} for g in (1.0, 1.5, 7.0)],
        sampling={"skip_layer_guidance_scale": 2.0},
        sweep={"num_inference_steps": [10, 20]},
    )
    for row in written.table().to_pylist():
        assert row["bucket"] == str(Bucket.of(written.expansion.sampling, **{name: row[name] for name in SHARED}))


def test_parts_are_the_whole_in_order(manifest, monkeypatch):
    written = manifest([{"prompt": f"p{i}" if i % 3 else "", "num_images_per_prompt": i % 5 + 1} for i in range(50)])
    whole = written.table()
    monkeypatch.setattr("batchgen.rows.expand.PART_ROWS", 10)
    parts = [*written.parts()]
    assert len(parts) > 5
    assert max(map(len, parts)) <= 15
    assert pa.concat_tables(parts).equals(whole.combine_chunks())


def test_long_texts_make_smaller_parts(manifest, monkeypatch):
    written = manifest([{"prompt": "x" * 10_000, "num_images_per_prompt": 4}] * 20)
    monkeypatch.setattr("batchgen.rows.expand.PART_BYTES", 400_000)
    assert len([*written.parts()]) >= 8


def test_no_rows_no_table(expand):
    assert len(expand({"prompt": pa.array([], pa.string())})) == 0


def test_too_many_images_of_a_very_long_row(expand, monkeypatch):
    monkeypatch.setattr("batchgen.rows.expand.MAX_ROW_BYTES", 10_000)
    row = only(expand([{"prompt": "x" * 1000, "num_images_per_prompt": 10}]))
    assert row["skip_code"] == "BAD_NUM_IMAGES"
    assert "asks for 10 images of a row with 4,000 bytes of text" in row["skip_message"]
