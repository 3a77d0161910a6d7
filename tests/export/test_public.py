"""Rows that leave the house: all that made a picture, and nothing of the machines and places where it was made."""

import datetime
import decimal
import json

import numpy as np
import pytest

from batchgen import schema
from batchgen.export.parameters import parameters
from batchgen.export.public import model_name, public
from batchgen.job.file import job_from
from batchgen.look.results import Results
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here

GONE = {
    "status", "error_code", "error_message", "shard", "file", "fingerprint", "plan", "device", "sigmas", "source_file",
    "source_row", "planned_batch_size", "render_seconds", "attempt", "image",
}  # fmt: skip


def test_every_column_is_told_or_left_out():
    """A new column of the metadata is looked at here before it leaves the house."""
    names = schema.metadata_schema(schema.SOURCE_FIELDS).names
    told = public(dict.fromkeys([*names, "image"]))
    assert set(names) | {"image"} == set(told) | GONE
    assert not set(told) & GONE
    assert {"prompt", "seed", "model", "model_digest", "settings", "versions", "phash", "suspect"} < set(told)


def test_rows_of_a_run_hold_no_place(tmp_path):
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "canary.jsonl").write_text('{"prompt": "a cat", "style": "ink", "weight": 0.5}\n')
    values = {
        "input": {"path": str(folder / "canary.jsonl")},
        "model": {"preset": "fake"},
        "sampling": {"height": 32, "width": 32, "shift": 2.0},
        "output": {"path": str(folder / "run")},
    }
    run = render_here(make_plan(prepare(job_from(values)))[0])
    (row,) = [row for table in Results(run.store.url).tables() for row in table.to_pylist()]
    row |= {"model": f"{folder}/weights/", "device": "canary", "settings": _with_paths(row["settings"], str(folder))}
    told = public(row)
    assert "canary" not in json.dumps(told, allow_nan=False) + parameters(row)
    assert (told["style"], told["weight"], told["model"]) == ("ink", 0.5, "weights")
    assert json.loads(told["settings"])["shift"] == 2.0
    assert json.loads(told["settings"]).keys() <= json.loads(row["settings"])["sampling"].keys()


def _with_paths(settings, folder):
    said = json.loads(settings)
    said["model"] |= {"vae": folder, "mirror": f"s3://canary/{folder}", "adapters": {"one": {"path": folder}}}
    return json.dumps(said | {"refine": {"model": {"pretrained_model_name_or_path": folder}}})


@pytest.mark.parametrize(
    ("model", "revision", "shown"),
    [
        ("stabilityai/stable-diffusion-3.5-medium", "abc", "stabilityai/stable-diffusion-3.5-medium"),
        ("stabilityai/stable-diffusion-3.5-medium", None, "stable-diffusion-3.5-medium"),
        ("/home/me/model/", None, "model"),
        ("/home/me/model", "main", "model"),
        ("s3://bucket/models/one.safetensors", "main", "one.safetensors"),
        (r"C:\Users\me\model", None, "model"),
        ("model", None, "model"),
        (None, None, None),
    ],
)
def test_a_model_is_named_by_its_last_part(model, revision, shown):
    assert model_name({"model": model, "revision": revision}) == shown
    assert public({"model": model, "revision": revision})["model"] == shown


def test_values_are_json():
    row = {
        "day": datetime.date(2026, 1, 2),
        "time": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "long": datetime.timedelta(seconds=5),
        "price": decimal.Decimal("1.50"),
        "nan": float("nan"),
        "endless": np.float32("inf"),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "words": ["a", np.float64(0.5), None],
        "inner": {"day": datetime.date(2026, 1, 2)},
        "text": "x",
        "none": None,
    }
    told = public(row)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert list(told.values()) == [
        "2026-01-02", "2026-01-02T03:04:05", "0:00:05", "1.50", None, None, 3, True, ["a", 0.5, None],
        {"day": "2026-01-02"}, "x", None,
    ]  # fmt: skip
