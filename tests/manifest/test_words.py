"""Tables as spreadsheets and other programs write them: each is read, or refused with what to do; hints hold."""

import json
import subprocess
import sys

import pytest
import yaml

from batchgen.errors import Refused
from batchgen.job.names import guess
from batchgen.manifest.first_job import job_text
from batchgen.manifest.values import read_rows
from tests.manifest.files import find, problem


def rows_of(path, **options):
    """(prompt, seed) of every row, and the rest that is said of the table."""
    found = find(path, **options)
    rows = [read_rows(source, options.get("columns", {}), found.extras) for source in found.items]
    pairs = [
        pair for one in rows for pair in zip(one.ours["prompt"].to_pylist(), one.ours["seed"].to_pylist(), strict=True)
    ]
    return pairs, found


def hinted(text, key):
    """What a message says to write for a key, read as YAML."""
    _, _, rest = text.partition(f"{key}: ")
    for end in range(len(rest), 0, -1):
        try:
            value = yaml.safe_load(rest[:end])
        except yaml.YAMLError:
            continue
        if isinstance(value, dict | list):
            return value
    raise AssertionError(text)


@pytest.mark.parametrize(
    "text",
    [
        'prompt;seed\na red circle;7\n"two; three";8\n',
        'sep=;\nprompt;seed\na red circle;7\n"two; three";8\n',
        '\ufeffsep=;\r\nprompt;seed\r\na red circle;7\r\n"two; three";8\r\n',
        '\ufeffprompt;seed\r\na red circle;7\r\n"two; three";8\r\n',
        "prompt\tseed\na red circle\t7\ntwo; three\t8\n",
        "prompt|seed\na red circle|7\ntwo; three|8\n",
        "sep=,\nprompt,seed\na red circle,7\ntwo; three,8\n",
    ],
)
def test_what_stands_between_values_is_found(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    pairs, found = rows_of(tmp_path / "a.csv")
    assert pairs == [("a red circle", 7), ("two; three", 8)]
    told = [notice for notice in found.notices if "between its values" in notice]
    assert bool(told) == (found.items[0].delimiter != ",")


def test_lines_are_counted_from_the_top_of_the_file(tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\nprompt;seed\na;1\nb;x\n")
    found = find(tmp_path / "a.csv")
    assert read_rows(found.items[0], {}, found.extras).numbers.tolist() == [3, 4]


def test_a_comma_stays_what_divides_a_table_where_it_divides_as_much(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,"a;b;c",note\nx,1,2\n')
    assert find(tmp_path / "a.csv").notices == []
    (tmp_path / "b.csv").write_text("prompt\nred; round, small\n")
    assert find(tmp_path / "b.csv").items[0].delimiter == ","


def test_a_number_with_a_comma_is_refused_with_the_one_to_write(tmp_path):
    (tmp_path / "a.csv").write_text("prompt;guidance_scale\na;4,5\nb;4.5\n")
    found = find(tmp_path / "a.csv")
    rows = read_rows(found.items[0], {}, found.extras)
    assert rows.complaints.message(0) == "column guidance_scale is '4,5', not a number: write 4.5"
    assert rows.ours["guidance_scale"].to_pylist() == [None, 4.5]


def test_a_table_of_windows_is_read_after_what_the_message_says(tmp_path):
    text = "prompt,größe\nein schöner Kreis,1\n"
    (tmp_path / "old.csv").write_bytes(text.encode("windows-1252"))
    said = problem(tmp_path / "old.csv").message
    assert "the header is not UTF-8" in said
    assert "iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW" in said
    (tmp_path / "new.csv").write_bytes((tmp_path / "old.csv").read_bytes().decode("windows-1252").encode())  # iconv
    assert rows_of(tmp_path / "new.csv")[0] == [("ein schöner Kreis", None)]
    (tmp_path / "row.csv").write_bytes("prompt\nschön\n".encode("windows-1252"))
    found = find(tmp_path / "row.csv")
    assert "save the file as UTF-8" in read_rows(found.items[0], {}, found.extras).complaints.message(0)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Seed", "seed"),
        ("Width", "width"),
        ("Negative Prompt", "negative_prompt"),
        ("CFG Scale", "guidance_scale"),
        ("cfg", "guidance_scale"),
        ("steps", "num_inference_steps"),
        ("ar", "aspect_ratio"),
        ("Aspect Ratio", "aspect_ratio"),
    ],
)
def test_columns_by_other_names_are_told_and_the_hint_maps_them(tmp_path, name, ours):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "x", name: 1 if ours != "negative_prompt" else "y"}) + "\n")
    (notice,) = find(tmp_path / "a.jsonl").notices
    columns = hinted(notice.removesuffix("."), "input.columns")
    assert columns == {name: ours} == guess(["prompt", name])
    assert ours in find(tmp_path / "a.jsonl", columns=columns).columns


def test_a_name_is_not_told_where_the_table_has_ours(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "caption": "y", "seed": 1, "Seed": 2}\n')
    assert find(tmp_path / "a.jsonl").notices == []
    assert guess(["prompt", "caption", "id2", "ID"]) == {}


@pytest.mark.parametrize("name", ["size", "resolution", "Resolution"])
def test_two_numbers_in_one_column_are_told(tmp_path, name):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "x", name: "1024x768"}) + "\n")
    (notice,) = find(tmp_path / "a.jsonl").notices
    assert (
        notice == f"Column {name} passes through and changes no image: write its numbers as columns height and width."
    )
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "x", name: "1024x768", "height": 768, "width": 1024}))
    found = find(tmp_path / "a.jsonl")
    assert (found.notices, found.columns) == ([], ["prompt", "height", "width"])


@pytest.mark.parametrize("name", ["caption", "my: caption", "caption, long", "'caption'", "#caption"])
def test_the_hint_for_a_table_without_prompt_is_yaml(tmp_path, name):
    (tmp_path / "a.jsonl").write_text(json.dumps({name: "x"}) + "\n")
    said = problem(tmp_path / "a.jsonl").message
    columns = hinted(said.partition(". There are")[0], "input.columns")
    if name in columns:
        assert rows_of(tmp_path / "a.jsonl", columns=columns)[0] == [("x", None)]
    else:
        assert columns == {"YOURS": "prompt"}


def test_a_name_that_is_taken_is_moved_by_the_hint(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "image_id": "i", "a: b": 1}\n')
    said = problem(tmp_path / "a.jsonl").message
    columns, keep = hinted(said.partition(" to rename")[0], "input.columns"), hinted(said, "input.keep_columns")
    assert {field.name for field in find(tmp_path / "a.jsonl", columns=columns).extras} == {"source_image_id", "a: b"}
    assert [field.name for field in find(tmp_path / "a.jsonl", keep_columns=keep).extras] == ["a: b"]


def test_a_folder_of_texts_is_told_and_made_a_table(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/12.txt").write_text("a cat\non a mat\n")
    (tmp_path / "in/7.txt").write_text("a dög\n", "utf-8")
    found = find(tmp_path / "in")
    assert found.rows == 3
    assert found.notices[0].startswith("2 text files: each line is a prompt; column source_file says from which file.")
    code = found.notices[0].partition("python3 -c '")[2].partition("' > prompts.jsonl")[0].replace("FOLDER", "in")
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True
    )
    (tmp_path / "prompts.jsonl").write_text(done.stdout)
    table = find(tmp_path / "prompts.jsonl")
    rows = read_rows(table.items[0], {}, table.extras)
    assert rows.ours["id"].to_pylist() == ["12", "7"]
    assert rows.ours["prompt"].to_pylist() == ["a cat\non a mat", "a dög"]
    assert find(tmp_path / "in/7.txt").notices == []


def test_a_table_of_300_columns_has_a_first_job(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"Prompt": "x"} | {f"c{i}": i for i in range(300)}) + "\n")
    with pytest.raises(Refused, match="has 300 columns of its own"):
        find(tmp_path / "a.jsonl", columns={"Prompt": "prompt"})
    text = job_text(str(tmp_path / "a.jsonl"), "out/run")
    said = yaml.safe_load(text)["input"]
    assert "There are 300 columns of your own, and 64 can pass through" in text
    assert len(find(tmp_path / "a.jsonl", columns=said["columns"], keep_columns=said["keep_columns"]).extras) == 64
