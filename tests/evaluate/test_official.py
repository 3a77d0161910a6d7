"""Scores that others made, in tables: each finds its image by id or path, and what is not scored is not zero."""

import json
import math

import pandas as pd
import pytest

import batchgen
from batchgen.errors import Refused
from batchgen.evaluate.asked import asked, asked_of_all
from batchgen.evaluate.official import score_from
from batchgen.evaluate.scores import read_scores
from batchgen.export.targets import target_named
from batchgen.export.writer import export
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here


@pytest.fixture
def run(make_job):
    return render_here(make_plan(prepare(make_job(["a", "b", {"prompt": "c"}])))[0])


def ids(run):
    return batchgen.open(run.store.url).to_pandas()["image_id"].tolist()


def scores(run, name):
    found = read_scores(run.store)[name].table
    return dict(zip(found["image_id"], found["score"], strict=True))


def test_a_table_by_image_id(run, tmp_path):
    one, two, three = ids(run)
    (tmp_path / "s.csv").write_text(
        f"image_id,seed,Aesthetic,note\n{one},5,6.25,x\n{two},5,,y\n{three},5,nan,z\nzz,1,2,w\n"
    )
    taken = score_from(run, "csv", str(tmp_path / "s.csv"))
    assert (taken.scorers, taken.scored, taken.unscored, taken.unknown) == (("csv-aesthetic",), 1, 2, ("zz",))
    found = scores(run, "csv-aesthetic")
    assert found[one] == 6.25
    assert math.isnan(found[two])
    assert math.isnan(found[three]), "neither of them is zero"
    assert taken.reasons == {"csv-aesthetic": {"the table says nan, which is no finite number": 1}}


def test_several_columns_are_several_scorers(run, tmp_path):
    one, *_ = ids(run)
    (tmp_path / "s.csv").write_text(f"path,clip,pick\n/elsewhere/{one}.png,30,0.5\n")
    assert score_from(run, "csv", str(tmp_path / "s.csv"), "lab").scorers == ("lab-clip", "lab-pick")
    assert (scores(run, "lab-clip"), scores(run, "lab-pick")) == ({one: 30.0}, {one: 0.5})


def test_evalscope_there_and_back(run, tmp_path):
    done = export(run, str(tmp_path / "out"), target_named("evalscope", run))
    lines = [json.loads(line) for line in (tmp_path / "out" / "prompts.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == ["a", "b", "c"]
    assert all((tmp_path / "out" / line["image_path"]).exists() for line in lines)
    assert done.written == 4
    said = [
        {"image_path": f"data/{line['image_path']}", "score": {"CLIPScore": at / 10}} for at, line in enumerate(lines)
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, said)))
    score_from(run, "evalscope", str(tmp_path / "r.jsonl"))
    assert scores(run, "evalscope-clipscore") == {line["id"]: at / 10 for at, line in enumerate(lines)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,score\nnobody,1\n", "scores no image of"),
        ("who,score\nx,1\n", "line 2 names no image"),
        ("", "scores no image of"),
        ("image_id,score\n{one},1\n{one},2\n", "column score scores 1 images twice"),
    ],
)
def test_bad_tables_get_one_message(run, tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text.replace("{one}", ids(run)[0]))
    with pytest.raises(Refused, match=message):
        score_from(run, "csv", str(tmp_path / "s.csv"))
    assert not (tmp_path / "run" / "scores").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{one},good,5\n{two},0.5,6\n", r"column score: line 2 says 'good': other lines have numbers there"),
        (
            "{one},good,bad\n{two},0.5,6\n",
            r"2 problems[\s\S]*column score: line 2[\s\S]*column other: line 2 says 'bad'",
        ),
        ("{one},good,x\n", r"no column of numbers \(column score, line 2 says 'good'; column other, line 2 says 'x'\)"),
        ("{one}\n", "no column of numbers"),
        ('{one},"good\nand bad",1\n{two},1,1\n', "line 3 says"),
    ],
)
def test_a_text_among_scores_is_named_with_its_line(run, tmp_path, text, message):
    one, two, _ = ids(run)
    (tmp_path / "s.csv").write_text("image_id,score,other\n" + text.replace("{one}", one).replace("{two}", two))
    with pytest.raises(Refused, match=message) as refused:
        score_from(run, "csv", str(tmp_path / "s.csv"))
    assert "write a number such as 0.5" in str(refused.value)
    assert not (tmp_path / "run" / "scores").exists()


def test_lines_of_json_are_counted_as_an_editor_does(run, tmp_path):
    one, two, _ = ids(run)
    rows = [{"image_id": one, "score": 1.5}, {"image_id": two, "score": "none"}]
    (tmp_path / "s.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    with pytest.raises(Refused, match="column score: line 3 says 'none'"):
        score_from(run, "csv", str(tmp_path / "s.jsonl"))


def test_scores_of_a_benchmark_without_an_export(run, tmp_path):
    (tmp_path / "r.jsonl").write_text("{}")
    with pytest.raises(Refused, match=r"was not exported for GenEval[\s\S]*--to geneval"):
        score_from(run, "geneval", str(tmp_path / "r.jsonl"))


def test_a_target_that_is_not_known(run):
    with pytest.raises(Refused, match=r"--to genevall: is not known. Did you mean geneval"):
        target_named("genevall", run)


def test_the_benchmarks_own_prompt_of_a_row_is_that_of_its_table():
    rows = pd.DataFrame({"prompt": ["a, photo", "b", "c"], "benchmark_prompt": ["a", None, ""]})
    assert asked_of_all(rows).tolist() == [asked(row) for row in rows.to_dict("records")] == ["a", "b", ""]
    assert asked_of_all(rows[["prompt"]]).tolist() == ["a, photo", "b", "c"]
