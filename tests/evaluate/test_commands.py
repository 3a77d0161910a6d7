"""Commands of an evaluation as they are typed: what they print, what they write, how they end."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import batchgen
from batchgen.cli import app
from batchgen.evaluate.benchmarks import BENCHMARKS
from batchgen.evaluate.labels import labels
from batchgen.evaluate.names import BENCHMARK_NAMES
from batchgen.evaluate.scores import About, write_part
from batchgen.job.file import load_job
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here


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


def test_an_evaluation_from_prompt_file_to_table(tmp_path):
    """GenEval's own format in, pictures, the folder of its scorer out and checked, its results in."""
    samples = Path(__file__).parents[1] / "samples"
    table, job, out = tmp_path / "geneval.parquet", tmp_path / "job.yaml", tmp_path / "run"
    code, said = command("import", "geneval", samples / "geneval.jsonl", "-o", table, "--images", "2")
    assert code == 0, said
    assert "Licence of the prompts: MIT" in said
    job.write_text(
        f"input: {{path: {table}}}\noutput: {{path: {out}}}\nmodel: {{preset: fake}}\n"
        "sampling: {height: 32, width: 32}\nsweep: {guidance_scale: [1.0, 4.5]}\n"
    )
    render_here(make_plan(prepare(load_job(job)))[0])
    code, said = command("export", out, tmp_path / "folder", "--to", "geneval")
    assert code == 0, said
    assert "What a scorer is pointed at: " in said
    roots = said.splitlines()[-1].removeprefix("What a scorer is pointed at: ").split(", ")
    prompts = len(pd.read_parquet(table))
    code, said = command("export", table, roots[0], "--to", "geneval", "--check")
    assert (code, len(roots)) == (0, 2), said
    results = []
    for root in map(Path, roots):
        for image in sorted(root.glob("*/samples/*.png")):
            record = json.loads((image.parents[1] / "metadata.jsonl").read_text())
            correct = "4.5" in root.name or int(image.parents[1].name) % 3 == 0
            line = {"filename": str(image), "tag": record["tag"], "prompt": record["prompt"], "correct": correct}
            results.append(json.dumps(line | {"reason": "", "metadata": json.dumps(record), "details": "{}"}))
    (tmp_path / "results.jsonl").write_text("\n".join(results))
    code, said = command("score", out, tmp_path / "results.jsonl", "--from", "geneval")
    assert code == 0, said
    assert f"{4 * prompts} images have a score, 0 have none" in said
    shutil.rmtree(next(Path(roots[1]).iterdir()))
    code, said = command("export", table, roots[1], "--to", "geneval", "--check")
    assert code == 1
    assert "the scorer would not notice" in said
    code, said = command(
        "adopt", roots[0], tmp_path / "other", "--layout", "geneval", "--name", "flux", "--manifest", table,
        "--set", "num_inference_steps=28",
    )  # fmt: skip
    assert code == 0, said
    assert f"{2 * prompts} images of flux" in said
    code, said = command("compare", out, "--out", tmp_path / "c.html")
    assert code == 0, said
    assert "guidance_scale=4.5" in said


def test_scores_need_one_way(run):
    code, said = command("score", run.store.url)
    assert (code, "write either --with" in said) == (2, True)
    code, said = command("score", run.store.url, "--from", "geneval")
    assert (code, "write either --with" in said) == (2, True)


def test_every_benchmark_is_a_command():
    assert {one.name: one.title for one in BENCHMARKS} == BENCHMARK_NAMES
    assert all(name in command("import", "--help")[1] for name in BENCHMARK_NAMES)


def test_a_refused_export_is_not_remembered(evaluated, tmp_path):
    """Another run's folder is refused, and that folder's scores do not become scores of this run."""
    first, second = evaluated("first"), evaluated("second", seed=5)
    assert command("export", first, tmp_path / "folder", "--to", "geneval")[0] == 0
    code, said = command("export", second, tmp_path / "folder", "--to", "geneval")
    assert code == 2
    assert "is there and is another file" in said
    assert not (second / "exports").exists()
    results = tmp_path / "results.jsonl"
    lines = []
    for image in sorted((tmp_path / "folder").rglob("*.png")):
        record = json.loads((image.parents[1] / "metadata.jsonl").read_text())
        lines.append({"filename": str(image), "tag": record["tag"], "prompt": record["prompt"], "correct": True})
    results.write_text("\n".join(map(json.dumps, lines)))
    code, said = command("score", second, results, "--from", "geneval")
    assert code == 2
    assert "was not exported for GenEval" in said
    assert command("score", first, results, "--from", "geneval")[0] == 0
    results.write_text("\n".join(json.dumps(line | {"prompt": "other"}) for line in lines))
    code, said = command("score", first, results, "--from", "geneval", "--name", "other")
    assert code == 2
    assert "was judged by the prompt 'other'" in said


@pytest.fixture
def evaluated(tmp_path):
    """evaluated(name, seed=0): a finished run of two of GenEval's sample prompts."""

    def make(name, seed=0):
        lines = (Path(__file__).parents[1] / "samples" / "geneval.jsonl").read_text().splitlines()[:2]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        table, job = tmp_path / f"{name}.parquet", tmp_path / f"{name}.yaml"
        assert command("import", "geneval", tmp_path / f"{name}.jsonl", "-o", table, "--images", "1")[0] == 0
        job.write_text(
            f"input: {{path: {table}}}\noutput: {{path: {tmp_path / name}}}\nmodel: {{preset: fake}}\n"
            f"sampling: {{height: 32, width: 32, seed: {seed}}}\n"
        )
        render_here(make_plan(prepare(load_job(job)))[0])
        return tmp_path / name

    return make


def test_a_scorer_that_scores_nothing_says_why(run, tmp_path):
    (tmp_path / "mine.py").write_text("class Broken:\n    def score(self, images, rows):\n        return [1 / 0]\n")
    code, said = command("score", run.store.url, "--with", f"{tmp_path}/mine.py:Broken")
    assert code == 2
    assert "Could score no picture at all: broken: ZeroDivisionError" in said
    code, said = command("select", run.store.url, "guidance_scale > 100", "--name", "none")
    assert code == 2
    assert "chooses none of the 48 images" in said


def test_what_is_no_number_in_a_table_is_counted(run, tmp_path):
    ids = batchgen.open(run.store.url).to_pandas()["image_id"]
    (tmp_path / "s.csv").write_text(f"image_id,mine\n{ids[0]},1.5\n{ids[1]},nan\n{ids[2]},-inf\n{ids[3]},\n")
    code, said = command("score", run.store.url, tmp_path / "s.csv", "--from", "csv")
    assert code == 0, said
    assert "csv-mine: 1 images have a score, 47 have none" in said
    assert "note: csv-mine: 1 images have no score: the table says nan, which is no finite number." in said
    assert "the table says -inf" in said


def test_a_scorer_that_scored_nothing_is_left_out(run, tmp_path):
    ids = batchgen.open(run.store.url).to_pandas()["image_id"]
    write_part(run.store, About(scorer="empty", version="1"), [{"image_id": ids[0], "score": 1.0}])
    code, said = command("compare", run.store.url, "--out", tmp_path / "c.html")
    assert code == 0, said
    assert "note: empty: is left out, as no prompt has its scores for all images in all cells." in said
    assert command("compare", run.store.url, "--scorers", "empty")[0] == 2


def test_repeated_prompts_are_counted_and_the_folder_stays_clean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = (Path(__file__).parents[1] / "samples" / "geneval.jsonl").read_text().splitlines()[:3]
    Path("p.jsonl").write_text("\n".join([*lines, *lines[:2]]))
    code, said = command("import", "geneval", "p.jsonl")
    assert code == 0, said
    assert "note: 2 prompts have the text of one before them, and are kept." in said
    assert command("import", "geneval", "p.jsonl")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["geneval.parquet", "p.jsonl"]
    code, said = command("import", "geneval", "p.jsonl", "--images", "0")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "'--images'" in said
    assert "greater than or equal to 1" in said
