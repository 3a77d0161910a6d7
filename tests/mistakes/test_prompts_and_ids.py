"""Mistakes 30 to 51: what prompts and ids may say. Most are a row's own, so that `skip` leaves that row out."""

from __future__ import annotations

import ast
import io
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from batchgen import report
from batchgen.look import show
from batchgen.manifest import lines
from batchgen.manifest.checks import MAX_CHARACTERS
from batchgen.run.plans import settings
from tests.mistakes.outcome import look

# What may stand in a prompt, though some program somewhere trips over it.
INVISIBLE = ["abc \u202edcba\u202c x", "zero\u200bwidth\ufeff", "\u2066isolate\u2069"]
LETTERS = ["🙂 👩‍👩‍👧 a cat", "قطة سوداء", "cafe\u0301", "café", "中文", "ﬁ ½"]
TEMPLATES = ["{0.__class__}", "%s %n %(x)d", "${HOME} $(id) `id`", "{{7*7}} {% x %}", "'; DROP TABLE images; --"]
MARKUP = ["<script>alert(1)</script>", '" onerror="alert(1)', "[red]rich[/red] [link=x]", "![x](javascript:x) | a |"]
FORMULAS = ['=HYPERLINK("http://x","y")', "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"]


def raw_text(*values):
    """A string column with bytes as they are, as a careless writer makes it."""
    offsets = np.cumsum([0, *map(len, values)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


@pytest.fixture
def unchanged(put, accepted):
    """unchanged(texts): accepted as prompts, byte for byte, whatever the file's format."""

    def check(texts):
        csv = "prompt\n" + "".join('"{}"\n'.format(text.replace('"', '""')) for text in texts)
        jsonl = [{"prompt": text} for text in texts]
        for name, content in {"a.parquet": {"prompt": texts}, "a.jsonl": jsonl, "a.csv": csv}.items():
            found = accepted(put(content, name))
            assert [image["prompt"].encode() for image in found.images] == [text.encode() for text in texts]
        return found

    return check


def printed(found):
    """What `batchgen plan` shows."""
    console = Console(file=io.StringIO(), width=200)
    report.print_plan(console, found.prepared, found.summary, [])
    return console.file.getvalue()


@pytest.mark.parametrize("row", [{"prompt": None}, {"note": "x"}, {}], ids=str)
def test_30_no_prompt(bad_row, row):
    bad_row(row, "NULL_PROMPT", "column prompt is missing: write what the image shows")


def test_30_no_prompt_in_other_formats(bad_row, put, job, command):
    table = {"prompt": ["a cat", None, "a cat"]}
    bad_row(None, "NULL_PROMPT", "column prompt is missing", table=table)
    bad_row(None, "NULL_PROMPT", table="prompt,seed\na cat,1\n,2\na cat,3\n", name="prompts.csv")
    command(job(put(table, "a.parquet")), "a.parquet, row 2: column prompt is missing: write what the image shows")


@pytest.mark.parametrize("prompt", ["", " ", "\n\t ", "\u3000\u00a0"], ids=repr)
def test_31_a_blank_prompt(bad_row, prompt):
    """A blank cell is a mistake far more often than a wish; who wants pictures of nothing writes a full stop."""
    bad_row({"prompt": prompt}, "EMPTY_PROMPT", "column prompt is blank: write what the image shows")


@pytest.mark.parametrize("column", ["prompt", "prompt_2", "prompt_3"])
def test_32_a_prompt_that_is_too_long(bad_row, column):
    row = {"prompt": "x", column: "é" * 100_000}
    bad_row(row, "PROMPT_TOO_LONG", f"column {column} has 100,000 characters: write at most {MAX_CHARACTERS:,}")


def test_32_a_prompt_that_encoders_cut(put, accepted, bad_row):
    prompt = ("red circle " * 2000)[:MAX_CHARACTERS].strip()
    [image] = accepted(put([{"prompt": prompt}])).images
    assert image["prompt"] == prompt
    assert all(image[f"overflow_{encoder}"] for encoder in ("clip_l", "clip_g", "t5"))
    assert all(prompt.endswith(image[f"truncated_{encoder}"]) for encoder in ("clip_l", "clip_g", "t5"))


def test_32_a_prompt_that_encoders_cut_where_nobody_wants_that(put, outcome):
    path = put([{"prompt": "red circle " * 100}, {"prompt": "x"}])
    found = outcome(path, "skip", errors={"on_overflow": {"t5": "refuse"}})
    assert [(p.where, p.code) for p in found.problems] == [("prompts.jsonl, line 1", "OVERFLOW_T5")]
    assert "shorten it, or write errors.on_overflow: {t5: keep}" in str(found.refusal)
    assert len(outcome(path, "refuse", errors={"on_overflow": {"t5": "skip"}}).images) == 1


def test_33_bytes_that_are_no_text(bad_row):
    says = "column prompt holds bytes that are no UTF-8 text: write it again as UTF-8"
    bad_row(None, "BAD_UTF8", says, table={"prompt": raw_text(b"x", b"caf\xe9", b"y")})
    repeated = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), raw_text(b"x", b"\xff"))
    bad_row(None, "BAD_UTF8", says, table={"prompt": repeated})
    bad_row(b'{"prompt": "caf\xe9"}', "BAD_UTF8", "the line is not UTF-8")
    bad_row(None, "BAD_UTF8", "the line is not UTF-8", table=b"prompt\nx\ncaf\xe9\ny\n", name="prompts.csv")


@pytest.mark.parametrize("character", ["\x00", "\x1b[31m", "\x07", "\x0c", "\x1f"], ids=repr)
def test_34_control_characters(bad_row, character):
    says = f"holds the control character {character[0]!r}: take it out"
    bad_row({"prompt": f"a{character}b"}, "BAD_CHARS", "column prompt", says)
    bad_row({"prompt": "x", "negative_prompt": character}, "BAD_CHARS", "column negative_prompt", says)


def test_34_tabs_and_line_ends(unchanged):
    unchanged(["a\tb", "a\nb", "a\r\nb"])


@pytest.mark.parametrize("prompt", ["\ud800", "a \udfff b", "\udc00\ud800"], ids=ascii)
def test_35_half_characters(bad_row, prompt):
    bad_row({"prompt": prompt}, "BAD_UTF8", "column prompt holds bytes that are no UTF-8 text")
    bad_row({"prompt": "x", "note": prompt}, "BAD_UTF8", "column note")


def test_36_invisible_characters(unchanged):
    """Kept, and shown as what they are."""
    unchanged(INVISIBLE)
    for prompt in INVISIBLE:
        [(_, shown)] = show.facts({"prompt": prompt})
        assert shown.isprintable()
        assert ast.literal_eval(shown) == prompt


def test_37_letters_of_the_world(unchanged):
    """Nothing is normalised: the two ways to write é are two prompts."""
    found = unchanged(LETTERS)
    assert len({image["prompt_id"] for image in found.images}) == len(LETTERS)


def test_38_templates(unchanged):
    """They pass through formatting, consoles and generated code as they are."""
    found = unchanged([text * 40 for text in TEMPLATES])
    assert any(text in printed(found) for text in TEMPLATES)
    for image in found.images:
        said = settings(found.prepared.job.model_dump(mode="json"), found.prepared.model)
        row = image | {"model": "m", "revision": None, "settings": said, "sigmas": [1.0, 0.0]}
        calls = [node for node in ast.walk(ast.parse(show.snippet(row))) if isinstance(node, ast.Call)]
        prompts = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "prompt"]
        assert [ast.literal_eval(prompt) for prompt in prompts] == [image["prompt"]]


def test_39_forged_lines(put, accepted, outcome):
    forged = "a cat\n9 images of 9 prompts\r\n"
    prompt = forged + "red " * 100 + forged
    found = accepted(put([{"prompt": prompt, "note": "x\x1b[2J\ny"}]))
    assert "\n9 images" not in printed(found)
    facts = dict(show.facts({"prompt": prompt, "note": found.images[0]["note"]}))
    assert all(text.isprintable() for text in facts.values())
    for row in ({"a\x1b[2J": "x"}, {"prompt": "x", "a\x1b[2J": "\ud800"}):
        said = str(outcome(put([row])).refusal)
        assert "a\\x1b[2J" in said
        assert said.isprintable()


@pytest.mark.parametrize("texts", [MARKUP, FORMULAS], ids=["40", "41"])
def test_40_41_markup_and_formulas(unchanged, texts):
    """No CSV is written, the card holds no prompt, tables are Parquet; the HTML page escapes (test_contact_page)."""
    unchanged(texts)


def test_40_markup_on_the_console(unchanged):
    assert "[red]rich[/red]" in printed(unchanged([text * 40 for text in MARKUP]))


def test_42_a_megabyte_of_negative_prompt(bad_row):
    row = {"prompt": "x", "negative_prompt": "x" * 2**20}
    bad_row(row, "PROMPT_TOO_LONG", "column negative_prompt has 1,048,576 characters: write at most 20,000")


def test_43_some_rows_without_an_id(bad_row):
    """That row is bad, not the job: under `skip` the others keep their names."""
    says = "column id is missing, but other rows have one: give every row an id"
    bad_row(None, "NULL_ID", says, table={"prompt": ["x", "y", "z"], "id": ["a", None, "b"]})
    bad_row(None, "NULL_ID", says, table="prompt,id\nx,1\ny,\nz,2\n", name="prompts.csv")


def test_43_no_row_with_an_id(put, accepted):
    with_column = accepted(put({"prompt": ["x"], "id": pa.array([None], pa.string())}, "a.parquet"))
    without = accepted(put({"prompt": ["x"]}, "a.parquet"))
    assert with_column.images == without.images


@pytest.mark.parametrize(("second", "name"), [({"prompt": "x"}, "44"), ({"prompt": "other"}, "45")], ids=["44", "45"])
def test_44_45_an_id_that_stands_twice(put, job, refused, command, second, name):
    """Under `skip` too: which of the two was meant is a guess. Without ids, equal rows are welcome and get -2, -3."""
    path = put([{"id": "a", "prompt": "x"}, "", {"id": "b", "prompt": "x"}, {"id": "a", **second}])
    says = "column id: 'a' stands on an earlier row too. Give every row its own id, or drop the column."
    refused(path, says, where="prompts.jsonl, line 4")
    command(job(path), "prompts.jsonl, line 4", says)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.csv", 'id,prompt\na,"two\nlines"\n\nb,y\na,"z\n"\n', "line 6"),
        ("a.tsv", "id\tprompt\na\tx\n\na\ty\n", "line 4"),
        ("a.parquet", {"id": ["a", "b", "a"], "prompt": ["x", "y", "z"]}, "row 3"),
    ],
)
def test_44_where_an_id_stands_twice(put, refused, name, content, place):
    refused(put(content, name), "column id: 'a' stands on an earlier row too", where=f"{name}, {place}")


def test_44_very_many_ids_that_stand_twice(put, outcome, monkeypatch):
    """Rows bring their lines along: the file is not read again for them."""
    reads, read = [], lines.read_lines
    for module in ("lines", "values"):
        monkeypatch.setattr(
            f"batchgen.manifest.{module}.read_lines", lambda source: reads.append(source) or read(source)
        )
    found = outcome(put([{"id": "a", "prompt": "x"}] * 500))
    assert found.refusal.codes == {"DUPLICATE_ID": 499}
    assert found.problems[-1].where == "prompts.jsonl, line 101"
    assert len(reads) == 1


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "C:\\x", "a/b", "..", "CON", "%2e%2e", "a" * 512])
def test_46_ids_that_look_like_paths(put, accepted, name):
    """Data like any other: no file is named by an id."""
    [image] = accepted(put([{"prompt": "x", "id": name}])).images
    assert image["prompt_id"] == name
    assert re.fullmatch("[0-9a-f]+", image["image_id"])


@pytest.mark.parametrize("name", ["a" * 513, "é" * 257], ids=["ascii", "utf-8"])
def test_47_an_id_that_is_too_long(bad_row, name):
    table = {"prompt": ["x", "y", "z"], "id": ["a", name, "b"]}
    bad_row(None, "BAD_ID", "column id is longer than 512 bytes: write a shorter one", table=table)


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\x1b[2J", "\x7f", ""], ids=repr)
def test_48_an_id_with_control_characters(bad_row, name):
    table = {"prompt": ["x", "y", "z"], "id": ["a", name, "b"]}
    found = bad_row(None, "BAD_ID", "column id is", "write text without control characters", table=table)
    assert found.skipped[0]["skip_message"].isprintable()


def test_49_ids_that_are_nearly_equal(put, accepted):
    """Distinct bytes are distinct ids. No warning: nothing here folds case or makes file names of ids."""
    names = ["É", "é", "e\u0301", "a", "A"]
    found = accepted(put([{"prompt": "x", "id": name} for name in names]))
    assert [image["prompt_id"] for image in found.images] == names
    assert len({image["image_id"] for image in found.images}) == len(names)


def test_50_ids_that_are_integers(put, accepted, refused, tmp_path):
    found = accepted(put({"prompt": ["x", "y"], "id": [7, -8]}, "a.parquet"))
    assert [image["prompt_id"] for image in found.images] == ["7", "-8"]
    put([{"prompt": "x", "id": "7"}], "b.jsonl")
    says = "column id holds integers in a.parquet and text in b.jsonl: write it as text everywhere"
    refused(tmp_path / "in", says)
    refused(put([json.dumps({"prompt": "x", "id": i}) for i in (7, "7")]), "column id holds", "prompts.jsonl")


def test_51_ids_that_are_floats(put, refused):
    for values in ([float("nan")], [7.0, None]):
        path = put({"prompt": ["x"] * len(values), "id": values}, "a.parquet")
        refused(path, "column id holds double: write text or integers", where="a.parquet")


def test_51_ids_that_are_floats_in_lines(put, job):
    path = put(['{"prompt": "x", "id": "a"}', '{"prompt": "y", "id": NaN}'])
    [problem] = look(job(path)).problems
    assert (problem.where, problem.code) == ("prompts.jsonl, line 2", "BAD_VALUE")
    assert "column id is nan, not text" in problem.message
