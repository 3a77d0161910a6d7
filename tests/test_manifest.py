"""One prompt row → image rows: values, order, names, seeds, and a precise complaint for every bad row."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batchgen import schema
from batchgen.columns import MAX_SEED
from batchgen.errors import Refused
from batchgen.job import Errors
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.manifest import lines, parquet
from batchgen.manifest.lines import row_numbers
from batchgen.manifest.sources import find_sources
from batchgen.rows import expand as manifest
from batchgen.rows import identity, naming
from batchgen.rows import sizes as rows
from batchgen.rows.buckets import Bucket
from batchgen.rows.expansion import Expansion
from batchgen.rows.tokens import TokenCounter
from tests.specs import files_of

PROMPTS = Path(__file__).parent.parent.parent / "shared" / "prompts"
DIGEST = "digest-of-the-model"


@pytest.fixture(scope="module")
def counter():
    return TokenCounter.load(DEMO_CHECKPOINT)


@pytest.fixture
def expand(tmp_path, counter):
    """expand(rows or table, sampling={...}, ...) → all image rows as one table, checked for its schema."""

    def expand(prompts, path=None, columns=None, keep_columns=None, digest=DIGEST, **sections):
        path = path or tmp_path / ("a.jsonl" if isinstance(prompts, list) else "a.parquet")
        write(prompts, path)
        job = job_from(
            {
                "input": {"path": str(path), "columns": columns or {}, "keep_columns": keep_columns},
                "model": {"preset": "sd3.5-medium"} | sections.pop("model", {}),
                "output": {"path": "out"},
                **sections,
            }
        )
        found = find_sources(job.input)
        settings = pickle.loads(pickle.dumps(Expansion.of(job, found.extras, files_of(digest))))
        parts = [part for source in found.items for part in manifest.expand_in_parts(source, settings, counter)]
        for part in parts:
            part.validate(full=True)
            assert part.schema == schema.expanded_schema(found.extras)
        expand.settings, expand.sources = settings, found
        return pa.concat_tables(parts) if parts else schema.expanded_schema(found.extras).empty_table()

    return expand


def write(prompts, path):
    if isinstance(prompts, list):
        lines = (row if isinstance(row, str | bytes) else json.dumps(row) for row in prompts)
        path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    else:
        pq.write_table(pa.table(prompts), path)


def only(table):
    [row] = table.to_pylist()
    return row


# Values


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
    assert (row["seed_derived"], row["sample_index"], row["cell"], row["prompt_row"]) == (True, 0, "default", 0)
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
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "skip_layer_guidance_scale": 2.8,
        "max_sequence_length": 64,
    }
    row = only(expand([said | {"num_images_per_prompt": 1}]))
    assert {name: row[name] for name in said} == said
    assert not row["seed_derived"]
    assert row["bucket"] == "512x768 steps=3 guidance=on slg=7,8,9@0.01-0.2 t5=64"


def test_null_says_nothing_and_an_empty_negative_prompt_says_none(expand):
    table = expand(
        [{"prompt": "x", "negative_prompt": None, "height": None}, {"prompt": "x", "negative_prompt": ""}],
        sampling={"negative_prompt": "ugly"},
    )
    assert table["negative_prompt"].to_pylist() == ["ugly", ""]
    assert table["height"].to_pylist() == [1024, 1024]


def test_an_empty_second_prompt_is_none(expand):
    assert only(expand([{"prompt": "x", "prompt_2": "", "prompt_3": " "}]))["prompt_2"] is None


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


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ({"height": 512, "width": 768}, (512, 768, None, None)),
        ({"height": 1080, "width": 1920}, (1088, 1920, 1080, None)),
        ({"height": 1000, "width": 1000}, (1008, 1008, 1000, 1000)),
        ({"aspect_ratio": "16:9"}, (768, 1360, None, None)),
        ({"aspect_ratio": "9/16"}, (1360, 768, None, None)),
        ({"aspect_ratio": 1.0}, (1024, 1024, None, None)),
        ({"aspect_ratio": "1.5", "height": 512}, (512, 768, None, None)),
        ({"aspect_ratio": "2:1", "width": 1000}, (496, 1008, None, 1000)),
        ({"aspect_ratio": 4}, (512, 2048, None, None)),
    ],
)
def test_sizes(expand, sides, expected):
    row = only(expand([{"prompt": "x"} | sides]))
    assert tuple(row[name] for name in ("height", "width", "requested_height", "requested_width")) == expected


def test_job_sizes_snap_too(expand):
    row = only(expand([{"prompt": "x"}], sampling={"height": 1000}))
    assert (row["height"], row["requested_height"], row["requested_width"]) == (1008, 1000, None)


def test_whole_floats_are_integers(expand):
    table = {"prompt": ["a", "b"], "height": [512.0, None], "width": [512.0, None], "seed": [3.0, None]}
    found = expand(table).to_pylist()
    assert [(row["height"], row["seed_derived"]) for row in found] == [(512, False), (1024, True)]
    assert expand([{"prompt": "a", "height": 512.0, "width": 5.12e2}])["width"].to_pylist() == [512]


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


# Order, cells, samples


def test_rows_come_cell_by_cell_and_sample_by_sample(expand):
    table = expand(
        [{"prompt": "a"}, {"prompt": ""}, {"prompt": "b", "num_images_per_prompt": 1}],
        sampling={"num_images_per_prompt": 2},
        sweep={"guidance_scale": [1.0, 4.5]},
    )
    found = [(r["prompt_row"], r["cell"], r["sample_index"], r["guidance_scale"]) for r in table.to_pylist()]
    assert found == [
        (0, "guidance_scale=1.0", 0, 1.0),
        (0, "guidance_scale=1.0", 1, 1.0),
        (0, "guidance_scale=4.5", 0, 4.5),
        (0, "guidance_scale=4.5", 1, 4.5),
        (1, "default", 0, None),
        (2, "guidance_scale=1.0", 0, 1.0),
        (2, "guidance_scale=4.5", 0, 4.5),
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


def test_the_bucket_column_is_the_key_of_the_row(expand):
    table = expand(
        [{"prompt": "a", "height": 512, "width": 768, "guidance_scale": g} for g in (1.0, 1.5, 7.0)],
        sampling={"skip_layer_guidance_scale": 2.0},
        sweep={"num_inference_steps": [10, 20]},
    )
    names = (
        "height",
        "width",
        "num_inference_steps",
        "guidance_scale",
        "skip_layer_guidance_scale",
        "max_sequence_length",
    )
    for row in table.to_pylist():
        assert row["bucket"] == str(Bucket.of(expand.settings.sampling, **{name: row[name] for name in names}))


def test_parts_are_the_whole_in_order(expand, counter, monkeypatch):
    prompts = [{"prompt": f"p{i}" if i % 3 else "", "num_images_per_prompt": i % 5 + 1} for i in range(50)]
    whole = expand(prompts)
    monkeypatch.setattr(manifest, "PART_ROWS", 10)
    [source] = expand.sources.items
    parts = [*manifest.expand_in_parts(source, expand.settings, counter)]
    assert len(parts) > 5
    assert max(map(len, parts)) <= 15
    assert pa.concat_tables(parts).equals(whole.combine_chunks())
    assert manifest.expand(source, expand.settings, counter).equals(whole)


def test_long_texts_make_smaller_parts(expand, counter, monkeypatch):
    expand([{"prompt": "x" * 10_000, "num_images_per_prompt": 4}] * 20)
    monkeypatch.setattr(manifest, "PART_BYTES", 400_000)
    parts = [*manifest.expand_in_parts(expand.sources.items[0], expand.settings, counter)]
    assert len(parts) >= 8


def test_no_rows_no_table(expand):
    assert len(expand({"prompt": pa.array([], pa.string())})) == 0


# Seeds and names


def test_own_seeds_count_up(expand):
    table = expand([{"prompt": "x", "seed": 100}], sampling={"num_images_per_prompt": 3})
    assert table["seed"].to_pylist() == [100, 101, 102]
    assert table["seed_derived"].to_pylist() == [False] * 3


def test_listed_seeds_are_for_samples_and_yield_to_the_row(expand):
    table = expand(
        [{"prompt": "x"}, {"prompt": "y", "seed": 5}, {"prompt": "z", "num_images_per_prompt": 1}],
        sampling={"seeds": [11, 22]},
    )
    assert table["seed"].to_pylist() == [11, 22, 5, 6, 11]
    assert not any(table["seed_derived"].to_pylist())


def test_largest_seeds(expand):
    assert expand({"prompt": ["x"], "seed": [MAX_SEED]})["seed"].to_pylist() == [MAX_SEED]


def test_own_ids_are_names(expand):
    assert expand({"prompt": ["x", "y"], "id": [7, 8]})["prompt_id"].to_pylist() == ["7", "8"]
    assert expand([{"prompt": "x", "id": "a/b"}, {"prompt": "x", "id": 9}][:1])["prompt_id"].to_pylist() == ["a/b"]


def test_ids_that_are_all_null_are_derived(expand):
    with_column = expand({"prompt": ["x"], "id": pa.array([None], pa.string())})
    assert with_column["prompt_id"].to_pylist() == expand({"prompt": ["x"]})["prompt_id"].to_pylist()


def test_every_part_of_a_row_names_it(expand):
    prompts = [
        {"prompt": "x"},
        {"prompt": "x", "note": "n"},
        {"prompt": "x", "height": 512, "width": 512},
        {"prompt": "x", "negative_prompt": ""},
        {"prompt": "x", "note": "1"},
    ]
    assert len(set(expand(prompts)["prompt_id"].to_pylist())) == 5


def test_more_images_of_a_row_keep_the_first_ones(expand):
    few = expand([{"prompt": "x", "num_images_per_prompt": 2}])
    many = expand([{"prompt": "x", "num_images_per_prompt": 4}])
    assert many["image_id"].to_pylist()[:2] == few["image_id"].to_pylist()


def test_a_name_does_not_depend_on_file_format_or_wider_types(expand):
    names = [
        expand([{"prompt": "x", "score": 1}])["image_id"].to_pylist(),
        expand([{"prompt": "x", "score": 1}, {"prompt": "y", "score": 2.5}])["image_id"].to_pylist()[:1],
        expand([{"prompt": "x", "score": 1}, {"prompt": "y", "score": "high"}])["image_id"].to_pylist()[:1],
        expand({"prompt": ["x"], "score": pa.array([1], pa.int8())})["image_id"].to_pylist(),
        expand({"score": [1.0], "unused": pa.array([None]), "prompt": ["x"]})["image_id"].to_pylist(),
    ]
    assert len({name for [name] in names}) == 1


def test_the_model_and_what_decides_the_image_name_it(expand):
    row = [{"prompt": "x", "id": "same"}]
    skipping = {"skip_layer_guidance_scale": 2.8}
    tables = [
        expand(row),
        expand(row, digest="other"),
        expand(row, model={"dtype": "float16"}),
        expand(row, sampling={"seed": 1}),
        expand(row, sampling={"negative_prompt": "ugly"}),
        expand(row, sampling=skipping),
        expand(row, sampling=skipping | {"skip_guidance_layers": [7]}),
        expand(row, sampling=skipping | {"skip_layer_guidance_stop": 0.3}),
        expand(row, sampling={"num_inference_steps": 41}),
        expand(row, sampling={"max_sequence_length": 77}),
    ]
    assert len({only(table)["image_id"] for table in tables}) == len(tables)
    unused = [expand(row, sampling={"skip_guidance_layers": [7]}), expand(row, errors={"bad_rows": "skip"})]
    assert {only(table)["image_id"] for table in unused} == {only(tables[0])["image_id"]}


def test_renamed_rows_get_the_seeds_of_their_names(expand):
    table = expand(
        [{"prompt": "x"}, {"prompt": "x"}, {"prompt": "y", "seed": 3}, {"prompt": ""}],
        sampling={"num_images_per_prompt": 2},
    )
    names = table["prompt_id"].to_pylist()
    renamed = [names[0]] * 2 + [f"{name}-2" for name in names[2:]]
    found = naming.reidentify(table, renamed, expand.settings)
    assert found.schema == table.schema
    assert found["prompt_id"].to_pylist() == renamed
    assert found.slice(0, 2).equals(table.slice(0, 2))
    assert found["seed"].to_pylist()[2:4] == [identity.derive_seed(0, renamed[2], sample) for sample in (0, 1)]
    assert found["seed"].to_pylist()[4:] == [3, 4, None]
    assert len(set(found["image_id"].to_pylist()) | set(table["image_id"].to_pylist())) == 2 + 5 + 3
    assert naming.reidentify(found, names, expand.settings).equals(table)


def test_a_renamed_row_is_the_row_of_that_name(expand):
    table = expand({"prompt": ["x"]}, sampling={"num_images_per_prompt": 3})
    as_named = expand({"prompt": ["x"], "id": ["mine"]}, sampling={"num_images_per_prompt": 3})
    assert naming.reidentify(table, ["mine"] * 3, expand.settings).equals(as_named)


# Bad rows

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
    ({"prompt": "x", "seed": 2**63}, "BAD_SEED", "column seed is 9223372036854775808, which is too large"),
    ({"prompt": "x", "seed": 1e20}, "BAD_SEED", "column seed is 1e+20, too large for a float: write integers"),
    (
        {"prompt": "x", "seed": 2**63 - 1, "num_images_per_prompt": 2},
        "BAD_SEED",
        "which with sample_index passes 9223372036854775807: write less",
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
    assert (bad["sample_index"], bad["cell"], bad["bucket"], bad["prompt_row"]) == (0, "default", None, 1)
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
        ({"seed": pa.array([1, 2**63, 3], pa.uint64())}, "BAD_SEED", "is 9223372036854775808, which is too large"),
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


def test_all_that_is_wrong_with_a_row_is_told(expand):
    row = only(expand([{"prompt": "", "height": 3, "width": 3, "seed": -1, "guidance_scale": "x"}]))
    assert row["skip_message"].split("; ") == [
        "column guidance_scale is 'x', not a number",
        "column prompt is blank: write what the image shows",
        "column seed is -1: write integers from 0 to 9223372036854775807",
        "column height and width are 3 × 3: " + rows.limits_text(expand.settings.preset),
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


def test_places_of_later_sources(expand, monkeypatch):
    monkeypatch.setattr(parquet, "SOURCE_ROWS", 3)
    monkeypatch.setattr(lines, "SOURCE_ROWS", 3)
    table = expand({"prompt": [*"abcdefg", None]})
    assert table["where"].to_pylist()[-1] == "a.parquet, row 8"
    assert [row_numbers(source)[1] for source in expand.sources.items] == [2, 5, 8]
    table = expand([{"prompt": p} for p in "abcd"] + ["", "", {"prompt": "e"}, {"prompt": ""}])
    assert table["where"].to_pylist()[-1] == "a.jsonl, line 8"
    assert row_numbers(expand.sources.items[1])[1] == 7


def test_float_columns_of_other_files_cannot_hold_every_integer(tmp_path, expand):
    folder = tmp_path / "many"
    folder.mkdir()
    write({"prompt": ["x"], "score": [0.5]}, folder / "b.parquet")
    path = folder / "a.parquet"
    write({"prompt": ["x", "y"], "score": [2**53 + 1, 3]}, path)
    expand({"prompt": ["z"], "score": [0.5]}, path=folder / "c.parquet")
    job = job_from({"input": {"path": str(folder)}, "output": {"path": "out"}})
    found = find_sources(job.input)
    counter = TokenCounter.load(DEMO_CHECKPOINT)
    table = manifest.expand(found.items[0], Expansion.of(job, found.extras, files_of(DIGEST)), counter)
    assert table["skip_code"].to_pylist() == ["BAD_VALUE", None]
    assert table["score"].to_pylist() == [None, 3.0]


def test_seeds_listed_in_the_job_are_as_many_as_the_images(expand):
    row = only(expand([{"prompt": "x", "num_images_per_prompt": 3}], sampling={"seeds": [1, 2]}))
    assert row["skip_code"] == "BAD_NUM_IMAGES"
    assert "column num_images_per_prompt is 3, but sampling.seeds has 2 entries" in row["skip_message"]
    assert len(expand([{"prompt": "x", "num_images_per_prompt": 3, "seed": 1}], sampling={"seeds": [1, 2]})) == 3


def test_too_many_images_of_a_very_long_row(expand, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_ROW_BYTES", 10_000)
    row = only(expand([{"prompt": "x" * 1000, "num_images_per_prompt": 10}]))
    assert row["skip_code"] == "BAD_NUM_IMAGES"
    assert "asks for 10 images of a row with 4,000 bytes of text" in row["skip_message"]


def test_a_row_that_is_impossible_in_one_cell_is_bad(expand):
    row = only(expand([{"prompt": "x", "width": 256}], sweep={"height": [256, 1024, 2048]}))
    assert row["skip_code"] == "BAD_SIZE"
    assert "2048 × 256 (in cell height=2048)" in row["skip_message"]


@pytest.mark.parametrize(("column", "axis"), [("width", "height"), ("height", "width")])
def test_a_side_of_the_row_and_one_of_the_cell_are_both(expand, column, axis):
    table = expand([{"prompt": "x", column: 256}], sweep={axis: [256, 1024]})
    assert table[column].to_pylist() == [256, 256]
    assert table[axis].to_pylist() == [256, 1024]


@pytest.mark.parametrize(("height", "width"), [(0, 64), (64, -64)])
def test_no_side_is_snapped_out_of_nothing(expand, height, width):
    """The fake model makes 16 × 64, the nearest possible size."""
    row = only(expand([{"prompt": "x", "height": height, "width": width}], model={"preset": "fake"}))
    assert row["skip_code"] == "BAD_SIZE"


def test_impossible_jobs_are_refused(expand):
    with pytest.raises(
        Refused, match="sampling: height, width: 4096 × 1024 cannot be made: write sides that make 65,536"
    ):
        expand([{"prompt": "x"}], sampling={"height": 4096})
    with pytest.raises(Refused, match="sweep: cell height=128: 128 × 1024 cannot be made"):
        expand([{"prompt": "x"}], sweep={"height": [128, 1024]})


# Overflow


def overflowing(expand, **policy):
    long, medium = "red circle " * 200, "red circle " * 50
    return expand(
        [{"prompt": "x"}, {"prompt": medium}, {"prompt": long}],
        sampling={"num_images_per_prompt": 2},
        errors={"on_overflow": policy},
    )


def test_cut_prompts_are_kept_by_default(expand):
    table = overflowing(expand)
    assert table["skip_code"].null_count == 6
    assert table["overflow_t5"].to_pylist() == [False] * 4 + [True] * 2
    assert table["truncated_clip_l"].to_pylist()[2] == "circle " + "red circle " * 12


@pytest.mark.parametrize("wish", ["skip", "refuse"])
def test_cut_prompts_may_be_unwanted(expand, wish):
    clip, t5 = overflowing(expand, clip=wish), overflowing(expand, t5=wish)
    assert clip["skip_code"].to_pylist() == [None] * 2 + ["OVERFLOW_CLIP"] * 4
    assert t5["skip_code"].to_pylist() == [None] * 4 + ["OVERFLOW_T5"] * 2
    row = t5.to_pylist()[-1]
    assert row["where"] == "a.jsonl, line 3"
    assert row["skip_message"] == (
        "column prompt has more tokens than T5 reads (max_sequence_length): shorten it, "
        "or write errors.on_overflow: {t5: keep}"
    )
    assert (row["height"], row["bucket"]) == (1024, "1024x1024 steps=40 guidance=on slg=off t5=256")
    assert clip["image_id"].to_pylist() == overflowing(expand)["image_id"].to_pylist()


def test_the_stricter_policy_names_the_code(expand):
    table = overflowing(expand, clip="refuse", t5="skip")
    assert table["skip_code"].to_pylist()[2:] == ["OVERFLOW_CLIP"] * 4
    table = overflowing(expand, clip="skip", t5="refuse")
    assert table["skip_code"].to_pylist()[2:] == ["OVERFLOW_CLIP"] * 2 + ["OVERFLOW_T5"] * 2


@pytest.mark.parametrize(
    ("errors", "stops"),
    [
        ({}, {"BAD_SIZE"}),
        ({"bad_rows": "skip"}, set()),
        ({"bad_rows": "skip", "on_overflow": {"clip": "refuse"}}, {"OVERFLOW_CLIP"}),
        ({"bad_rows": "skip", "on_overflow": {"t5": "refuse", "clip": "skip"}}, {"OVERFLOW_T5"}),
    ],
)
def test_codes_that_stop_the_job(errors, stops):
    codes = {"BAD_SIZE", "OVERFLOW_CLIP", "OVERFLOW_T5"}
    assert {code for code in codes if manifest.refused(code, Errors.model_validate(errors))} == stops


# Real prompts


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="the benchmark prompts are not here")
def test_parti_prompts(expand, tmp_path):
    options = {"parse_options": pa.csv.ParseOptions(delimiter="\t", quote_char=False)}
    table = pa.csv.read_csv(PROMPTS / "PartiPrompts.tsv", **options)
    found = expand(
        table,
        columns={"Prompt": "prompt"},
        keep_columns=["Category", "Challenge"],
        sampling={"num_images_per_prompt": 2},
    )
    assert len(found) == 2 * len(table) == 2 * expand.sources.rows
    assert found["skip_code"].null_count == len(found)
    assert [field.name for field in expand.sources.extras] == ["Category", "Challenge"]
    assert found["Category"].to_pylist()[::2] == table["Category"].to_pylist()
    assert found["prompt"].to_pylist()[::2] == table["Prompt"].to_pylist()


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="the benchmark prompts are not here")
def test_geneval_prompts(expand):
    lines = (PROMPTS / "geneval_metadata.jsonl").read_text().splitlines()
    found = expand(lines)
    assert len(found) == len(lines)
    assert found["skip_code"].null_count == len(found)
    assert {"tag", "include"} <= {field.name for field in expand.sources.extras}
    assert json.loads(found["include"][0].as_py()) == json.loads(lines[0])["include"]
