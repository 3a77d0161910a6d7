"""compare and select as they are typed: what they print, what they write, how they end."""

import json
import re

import pytest
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.evaluate.labels import labels


def command(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def run(scored):
    return scored(prompts=24)


def test_a_sweep_is_compared(run, tmp_path):
    code, said = command("compare", run.store.url, "--out", tmp_path / "c.html", "--baseline", "guidance_scale=1.0")
    assert code == 0
    assert "guidance_scale=4.5" in said
    assert "3.5" in said, "the difference, which the scores have by their making"
    assert said.splitlines()[-1].startswith("To look at it: ")
    assert "<title>Comparison of run</title>" in (tmp_path / "c.html").read_text()


def test_in_other_forms(run):
    code, said = command("compare", run.store.url, "--format", "json", "--all-pairs")
    found = json.loads(said)
    (scorer,) = found["scorers"]
    values = {one["cell"]: one["value"] for one in scorer["results"]}
    assert code == 0
    assert values["guidance_scale=4.5"] - values["guidance_scale=1.0"] == pytest.approx(3.5)
    assert scorer["differences"][0]["decided"] is True
    assert command("compare", run.store.url, "--format", "latex")[1].count(r"\toprule") >= 2
    assert command("compare", run.store.url, "--format", "markdown")[1].count("| --- |") >= 2


def test_two_runs_are_compared_and_what_has_no_partner_is_counted(scored, tmp_path):
    small = scored(prompts=6, out="small", sweep={"guidance_scale": [4.5]})
    large = scored(prompts=9, out="large", sweep={"guidance_scale": [4.5]})
    code, said = command("compare", small.store.url, large.store.url, "--out", tmp_path / "c.html")
    assert code == 0, said
    assert re.search(r"large.*: 3 of 9 images have no partner", said)
    code, said = command("compare", small.store.url, small.store.url, tmp_path / "nowhere")
    assert code == 2
    assert "is named twice" in said
    assert "holds no batchgen run" in said


def test_only_a_selection_is_compared(run, tmp_path):
    assert command("select", run.store.url, "category = 'kind 1'", "--name", "v1") == (
        0,
        "v1: 24 images of 48, 24 are chosen.\n",
    )
    code, said = command("compare", run.store.url, "--selection", "v1", "--out", tmp_path / "c.html")
    assert code == 0
    assert "Only images of the selection are compared (12 of each cell)" in said
    assert command("compare", run.store.url, "--selection", "v2")[0] == 2
    code, said = command("select", run.store.url, "true", "--name", "v3", "--dedupe", "4")
    assert code == 2
    assert "write phash: and the bits" in said


def test_without_scores_it_says_how_to_make_them(scored):
    code, said = command("compare", scored(scores=False).store.url)
    assert code == 2
    assert "batchgen score" in said


def test_labels_are_as_short_as_they_can_be():
    assert labels(["/a/run", "/b/x"]) == ["run", "x"]
    assert labels(["/a/run", "s3://b/run"]) == ["a/run", "b/run"]
