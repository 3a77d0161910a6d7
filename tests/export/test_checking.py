"""What `--check` says of a folder, for people: short, and the same whether a run or a table names the prompts."""

import re

import pytest
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.evaluate.benchmarks.geneval import GENEVAL
from batchgen.export.benchmark_folder import BenchmarkFolder
from batchgen.export.grouped import grouped
from batchgen.export.writer import export
from tests.evaluate.rendered import SAMPLES, rendered


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """run/, the manifest, and out/ with the folders of two cells."""
    found = tmp_path_factory.mktemp("checking")
    sweep = {"guidance_scale": [1.0, 4.5]}
    run = rendered(found, "geneval", [SAMPLES / "geneval.jsonl"], images=1, sweep=sweep)
    export(run, str(found / "out"), BenchmarkFolder(GENEVAL, "fake"))
    return found


def checked(*words):
    done = CliRunner().invoke(app, ["export", *map(str, words), "--to", "geneval", "--check"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_a_subset_is_a_note_by_run_and_by_table(folder):
    one = folder / "out" / "guidance_scale=1.0"
    note = "note: 12 of the 553 prompts of GenEval are asked for: what its scorer sums up over them is of this subset"
    for place, dest in ((folder / "run", folder / "out"), (folder / "geneval-run.parquet", one)):
        code, said = checked(place, dest)
        assert code == 0, said
        assert "GenEval reads all of it." in said
        assert note in said


def test_a_selection_asks_for_its_prompts_only(folder):
    select = ["select", str(folder / "run"), "category = 'position'", "--name", "v1"]
    assert CliRunner().invoke(app, select).exit_code == 0
    export_it = ["export", str(folder / "run"), str(folder / "some"), "--to", "geneval", "--selection", "v1"]
    assert CliRunner().invoke(app, export_it).exit_code == 0
    code, said = checked(folder / "run", folder / "some", "--selection", "v1")
    assert code == 0, said
    assert "note: 2 of the 553 prompts" in said
    assert checked(folder / "run", folder / "some")[0] == 1
    code, said = checked(folder / "geneval-run.parquet", folder / "some", "--selection", "v1")
    assert code == 2


def test_a_folder_above_is_one_sentence_with_those_below(folder):
    code, said = checked(folder / "geneval-run.parquet", folder / "out")
    assert code == 1
    first, note = said.splitlines()
    assert "no image is where the scorer of GenEval looks for it. Is the folder one further down?" in first
    assert all(f"{folder}/out/{cell}" in first for cell in ("guidance_scale=1.0", "guidance_scale=4.5"))
    assert note.startswith("note: ")
    code, said = checked(folder / "geneval-run.parquet", "/")
    assert code == 2
    assert said.startswith("/: is no folder of images.")


def test_what_is_missing_is_counted_and_not_listed(folder, tmp_path):
    (tmp_path / "some").mkdir()
    for number in range(7):
        (tmp_path / "some" / f"picture {number}.png").write_bytes(b"")
    code, said = checked(folder / "geneval-run.parquet", tmp_path / "some")
    assert code == 1
    assert len(re.findall("has no folder, and the scorer would not notice", said)) == 5
    assert "... and 7 more like the last one" in said
    assert len(re.findall("the scorer passes over it", said)) == 5
    assert "... and 2 more like the last one" in said


def test_lines_are_alike_that_differ_in_names():
    lines = [f"{n}/x.png: is 'a {n}', not b/{n}" for n in range(6)] + ["7/x.png: is missing", "nothing is there"]
    assert list(grouped(lines)) == [*lines[:5], "... and 1 more like the last one", *lines[6:]]
    assert list(grouped(['prompt 1 ("it\'s") is bad', "prompt 2 ('its') is bad"] * 3))[-1].startswith("... and 1 more")
