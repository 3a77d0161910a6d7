"""Every image, and every row that failed, says from which file and row its prompt came; names and plans do not."""

import json

import batchgen
from batchgen.job.file import job_from
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here


def render(tmp_path, name, files):
    folder = tmp_path / name
    folder.mkdir()
    for file, rows in files.items():
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "input": {"path": str(folder)},
        "model": {"preset": "fake"},
        "output": {"path": str(tmp_path / f"{name}-run")},
    }
    run = render_here(make_plan(prepare(job_from(values | {"errors": {"bad_rows": "skip"}})))[0])
    return run, batchgen.open(run.store.url).to_pandas().set_index("prompt")


def test_images_failures_and_skipped_rows_say_where_they_stand(tmp_path):
    rows = [{"prompt": "a", "seed": 1}, {"prompt": "b", "seed": -1}, {"prompt": "fake:raise"}]
    _, frame = render(tmp_path, "two", {"one.jsonl": rows, "two.jsonl": [{"prompt": "c", "num_images_per_prompt": 2}]})
    where = sorted({(prompt, row.source_file, row.source_row, row.status) for prompt, row in frame.iterrows()})
    assert where == [
        ("a", "one.jsonl", 1, "ok"),
        ("b", "one.jsonl", 2, "failed"),
        ("c", "two.jsonl", 1, "ok"),
        ("fake:raise", "one.jsonl", 3, "failed"),
    ]


def test_columns_of_ones_own_with_these_names_stay(tmp_path):
    rows = [{"prompt": "a", "source_file": "mine", "x": 1}]
    _, frame = render(tmp_path, "own", {"one.jsonl": rows})
    assert (frame.loc["a", "source_file"], frame.loc["a", "source_row"]) == ("mine", 1)


def test_they_are_in_no_name_and_no_fingerprint(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    one, first = render(tmp_path, "here", {"one.jsonl": rows})
    other, second = render(tmp_path, "there", {"another.jsonl": rows})
    assert one.plans[0].fingerprint == other.plans[0].fingerprint
    assert first["image_id"].to_dict() == second["image_id"].to_dict()
    assert first["pixel_sha256"].to_dict() == second["pixel_sha256"].to_dict()
