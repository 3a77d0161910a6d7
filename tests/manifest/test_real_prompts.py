"""Published prompts, as they are."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

PROMPTS = Path(__file__).parents[3] / "shared" / "prompts"


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="the benchmark prompts are not here")
def test_parti_prompts(manifest):
    options = {"parse_options": pa.csv.ParseOptions(delimiter="\t", quote_char=False)}
    table = pa.csv.read_csv(PROMPTS / "PartiPrompts.tsv", **options)
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


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="the benchmark prompts are not here")
def test_geneval_prompts(manifest):
    lines = (PROMPTS / "geneval_metadata.jsonl").read_text().splitlines()
    written = manifest(lines)
    found = written.table()
    assert len(found) == len(lines)
    assert found["skip_code"].null_count == len(found)
    assert {"tag", "include"} <= {field.name for field in written.sources.extras}
    assert json.loads(found["include"][0].as_py()) == json.loads(lines[0])["include"]
