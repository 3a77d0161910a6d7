"""Names of columns, files and facts that somebody else chose never move the cursor of whoever reads about them."""

from __future__ import annotations

import dataclasses
import json
import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from batchgen import report
from batchgen.cli import app
from batchgen.errors import Problem, Refused, RunMismatch
from batchgen.job.file import inline_yaml, load_job
from batchgen.look import doctor
from batchgen.manifest.first_job import job_text
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import Run
from batchgen.words import legible, visible
from tests.in_process import render_here
from tests.job_files import job_file

# Clear the screen, set the title, the same as one C1 byte, turn text round, hide it, begin another line.
ODD = "\x1b[2J\x1b]0;title\x07\x9b31m\u202etxet\u2066\u200b\r\nsound: 9 planned = 9 images"
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def refuse_odd(text):
    """Fails where a terminal would do anything with the text but show it."""
    strange = [c for c in text if c != "\n" and unicodedata.category(c) in HIDDEN]
    assert not strange, strange
    assert not any(line.startswith("sound: 9") for line in text.split("\n")), text


@given(st.text())
def test_what_is_visible_is_printable_and_what_was_stays(text):
    assert visible(text).isprintable()
    assert legible(text).count("\n") == text.count("\n")
    assert visible("犬 und Übung 🐕 نص") == "犬 und Übung 🐕 نص"


def test_errors_show_names_as_what_they_are():
    refuse_odd(str(Problem(f"there is no column {ODD}.", ODD)))
    refuse_odd(str(Refused([Problem(ODD, "a"), Problem("b", ODD)])))
    refuse_odd(str(RunMismatch(ODD.replace("\n", ""))))


def plan(tmp_path, rows, **sections):
    done = CliRunner().invoke(app, ["plan", job_file(tmp_path, rows, **sections)])
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("row", "sections", "code"),
    [
        ({"prompt": "a", f"seeed{ODD}": 1, f"prompt{ODD}": "x"}, {}, 0),  # passes through, perhaps with a notice
        ({f"prompt{ODD}": "x"}, {}, 2),  # there is no column 'prompt'; the nearest is
        ({"prompt": "x", "a": 1}, {"input": {"columns": {ODD: "id"}}}, 2),
        ({"prompt": "x", "height": ODD}, {}, 2),
        ({"prompt": "x", "adapter": ODD}, {}, 2),
        ({"prompt": f"word {ODD} " * 90}, {"errors": {"bad_rows": "skip"}}, 0),
    ],
    ids=range(6),
)
def test_names_and_values_of_a_table(tmp_path, row, sections, code):
    ended, said = plan(tmp_path, [row], **sections)
    assert ended == code, said
    refuse_odd(said)


def test_names_of_files(tmp_path, make_job, console):
    job = make_job(["a cat"])
    run = render_here(make_plan(prepare(job))[0])
    (tmp_path / "run" / "data" / ODD.replace("/", "")).write_bytes(b"x")
    report.print_doctor(console, doctor.examine(run))
    said = console.file.getvalue()
    assert "belongs to no plan" in said
    refuse_odd(said)
    strange = tmp_path / f"{ODD}.exe"
    strange.write_bytes(b"x")
    refuse_odd(CliRunner().invoke(app, ["init", str(strange)]).output)


def test_facts_of_another_plan(make_job):
    job = make_job(["a cat"])
    run, _ = make_plan(prepare(job))
    plan = run.plans[0]
    facts = dataclasses.replace(plan.facts, unknown={ODD: ODD}, sweep={ODD: [ODD]})
    theirs = Run(run.store, [dataclasses.replace(plan, facts=facts, fingerprint="other")])
    with pytest.raises(RunMismatch) as mismatch:
        theirs.check(plan.facts, plan.fingerprint)
    refuse_odd(str(mismatch.value))
    assert "\\x1b[2J" in str(mismatch.value)


def test_notes_of_a_snippet_stay_comments(make_job):
    """Whoever pastes the code of another's image runs no more than what it says."""
    from batchgen.look import show
    from batchgen.look.results import Results

    run = render_here(make_plan(prepare(make_job(["a cat"])))[0])
    row = Results(run.store.url).to_pandas().to_dict("records")[0]
    settings = json.loads(row["settings"])
    settings["model"]["pretrained_model_name_or_path"] = "s3://a\nimport os"
    code = show.snippet(row | {"settings": json.dumps(settings)})
    assert "\nimport os" not in code
    assert "s3://a\\nimport os" in code


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200) | st.sampled_from(
    [ODD, "a: b", "- x", "~",
      "# x", "}\nkeep_columns: []", "<<", "=", "null", "1", "'", '"', "{a}", "%s", "é\u0085b\u2028c", "? x"]
)  # fmt: skip


@given(st.dictionaries(names, names, max_size=5) | names | st.lists(names))
def test_yaml_of_any_names_loads_as_what_was_meant(value):
    text = inline_yaml(value)
    assert "\n" not in text
    assert yaml.safe_load(f"input:\n  columns: {text}  # more\nb: 1\n") == {"input": {"columns": value}, "b": 1}


@given(st.lists(names, max_size=6, unique_by=str.lower), st.sampled_from(["Caption", "prompt_text"]))
def test_any_columns_give_a_first_job_that_says_what_was_meant(tmp_path_factory, others, prompt):
    folder = tmp_path_factory.mktemp("init")
    record = {name: "x" for name in others if name.lower() not in ("prompt", "caption", "text", "prompt_text")}
    (folder / "a.jsonl").write_text(json.dumps(record | {prompt: "a cat"}) + "\n")
    try:
        text = job_text(str(folder / "a.jsonl"), "out/run\n: x")
    except Refused as refused:
        refuse_odd(str(refused))
        return
    (folder / "job.yaml").write_text(text)
    values, job = yaml.safe_load(text), load_job(folder / "job.yaml")
    assert set(values) == {"input", "model", "sampling", "output", "errors", "cluster"}
    assert set(values["input"]) == {"path", "columns"}
    assert values["input"]["columns"][prompt] == "prompt"
    assert (job.input.keep_columns, job.output.path) == (None, "out/run\n: x")
