"""All problems of a job in one message: the first hundred with their places, the rest as counts."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest

from batchgen.errors import Problem, Refused
from batchgen.manifest import lines

BAD = [
    {"prompt": None},
    {"prompt": " "},
    {"prompt": "x", "seed": -1},
    {"prompt": "x", "num_inference_steps": 0, "guidance_scale": 99},
]


def test_a_hundred_problems_are_shown_and_the_rest_is_counted(put, job, outcome, command):
    rows = [row for _ in range(60) for row in [{"prompt": "good"}, *BAD]]
    path = put(rows)
    said = command(job(path))
    shown = [line for line in said.splitlines() if line.startswith("  - prompts.jsonl, line ")]
    assert "\n240 problems:\n" in said
    assert len(shown) == 100
    assert shown[0] == "  - prompts.jsonl, line 2: column prompt is missing: write what the image shows"
    assert shown[-1].startswith("  - prompts.jsonl, line 125: column num_inference_steps is 0: write integers")
    assert "; column guidance_scale is 99.0: write numbers" in shown[-1]  # one row, one problem, all that is wrong
    assert said.splitlines()[-2:] == [
        "  ... and 140 more",
        "In all: NULL_PROMPT: 60, EMPTY_PROMPT: 60, BAD_SEED: 60, BAD_STEPS: 60",
    ]
    skipping = outcome(path, "skip")
    assert skipping.summary.codes == outcome(path).refusal.codes
    assert len(skipping.images) == 60


def test_a_hundred_problems_of_many_pieces(put, outcome, monkeypatch, tmp_path):
    """The first ones in manifest order, wherever the files were divided; damaged files and repeated ids among them."""
    monkeypatch.setattr(lines, "SOURCE_ROWS", 7)
    for name in "ab":
        rows = [{"id": f"{name}{i % 30}", "prompt": None if i % 3 else "x"} for i in range(90)]
        put(rows, f"{name}.jsonl")
    found = outcome(tmp_path / "in")
    assert found.refusal.codes == {"NULL_PROMPT": 120, "DUPLICATE_ID": 120}
    places = [problem.where for problem in found.problems]
    assert len(places) == 100
    numbers = [int(place.removeprefix("a.jsonl, line ")) for place in places]
    assert [n // 7 for n in (n - 1 for n in numbers)] == sorted((n - 1) // 7 for n in numbers)  # piece by piece
    for problem in found.problems[-20:]:
        assert problem.code == ("DUPLICATE_ID" if "earlier row" in problem.message else "NULL_PROMPT")


def test_a_hundred_damaged_files(put, outcome, tmp_path):
    for number in range(130):
        put(b"PAR1", f"{number:03}.parquet")
    found = outcome(tmp_path / "in")
    assert found.refusal.total == 130
    assert [problem.where for problem in found.problems] == [f"{number:03}.parquet" for number in range(100)]
    assert str(found.refusal).endswith("\n  ... and 30 more")


def test_every_place_is_looked_at(put, job, command, tmp_path):
    """Output, input, model, sizes: none hides another."""
    values = job(
        put({"caption": ["x"]}, "a.parquet"),
        output={"path": "s3://key:secret@bucket/run"},
        model={"preset": "demo", "adapters": {"ink": {"path": str(tmp_path / "nowhere.safetensors")}}},
        sampling={"height": 4096},
    )
    says = ["holds credentials", "there is no column 'prompt'", "nowhere.safetensors", "4096 × 96 cannot be made"]
    assert command(values, *says).startswith("4 problems:\n")


@pytest.mark.parametrize("count", [1, 2, 100])
def test_as_many_as_are_shown_need_no_counts(count):
    problems = [Problem("is wrong", f"row {number}", "BAD") for number in range(count)]
    said = str(Refused(problems))
    assert "In all" not in said
    assert "more" not in said
    assert said.count("is wrong") == count


def test_a_refusal_travels_with_its_counts():
    problems = [Problem("is wrong", code="BAD")] * 100
    found = pickle.loads(pickle.dumps(Refused(problems, Counter(BAD=150, WORSE=3))))
    assert (found.total, found.codes, len(found.problems)) == (153, {"BAD": 150, "WORSE": 3}, 100)
    assert str(found).endswith("... and 53 more\nIn all: BAD: 150, WORSE: 3")
