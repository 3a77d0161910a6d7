"""Tables in the formats of published benchmarks, with prompts of our own."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

SAMPLES = Path(__file__).parents[1] / "samples"


def test_a_table_like_partiprompts(manifest):
    options = {"parse_options": pa.csv.ParseOptions(delimiter="\t", quote_char=False)}
    table = pa.csv.read_csv(SAMPLES / "partiprompts.tsv", **options)
    written = manifest(
        table,
        columns={"Prompt": "prompt"},
        keep_columns=["Category", "Challenge"],
        sampling={"num_images_per_prompt": 2},
    )
    found = written.table()
    assert len(found) == 2 * len(table) == 2 * written.sources.rows
    assert found["skip_code"].null_count == len(found)
    assert [field.name for field in written.sources.extras] == ["Category", "Challenge"]
    assert found["Category"].to_pylist()[::2] == table["Category"].to_pylist()
    assert found["prompt"].to_pylist()[::2] == table["Prompt"].to_pylist()


def test_a_table_like_geneval(manifest):
    lines = (SAMPLES / "geneval.jsonl").read_text().splitlines()
    written = manifest(lines)
    found = written.table()
    assert len(found) == len(lines)
    assert found["skip_code"].null_count == len(found)
    assert {"tag", "include"} <= {field.name for field in written.sources.extras}
    assert json.loads(found["include"][0].as_py()) == json.loads(lines[0])["include"]
