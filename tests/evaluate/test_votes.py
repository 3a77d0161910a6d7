"""Votes of the page become scores of images and win rates of columns, whichever side a picture stood on."""

import json

import pytest

from batchgen.errors import Refused
from batchgen.evaluate.votes import read_votes, scores_of, win_rates


def line(prompt, vote, left="a", right="b", rater="r1"):
    return json.dumps(
        {
            "rater": rater, "prompt": prompt, "seed": "1", "vote": vote,
            "left": f"{left}-{prompt}", "right": f"{right}-{prompt}",
            "left_run": "run", "right_run": "run", "left_column": left, "right_column": right,
        }
    )  # fmt: skip


@pytest.fixture
def file(tmp_path):
    """Column b wins 30 of 40 prompts, on either side; four are ties."""
    lines = []
    for i in range(40):
        sides = ("a", "b") if i % 2 else ("b", "a")
        better = "tie" if i >= 36 else ("b" if i < 30 else "a")
        vote = better if better == "tie" else ("left" if sides[0] == better else "right")
        lines.append(line(f"p{i}", vote, *sides))
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_a_win_counts_for_the_column_and_not_for_the_side(file):
    (found,) = win_rates(read_votes([file]))
    assert (found.one, found.other) == ("a", "b")
    assert found.rate == pytest.approx((6 + 4 * 0.5) / 40)
    assert (found.prompts, found.votes, found.ties, found.raters) == (40, 40, 4, 1)
    assert 0.05 < found.interval.low < found.rate < found.interval.high < 0.36


def test_several_raters_of_one_prompt_are_one_prompt(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(line(f"p{i}", "left", rater=f"r{r}") for i in range(5) for r in range(3)))
    (found,) = win_rates(read_votes([path]))
    assert (found.rate, found.prompts, found.votes, found.raters) == (1.0, 5, 15, 3)
    assert found.interval.low < 0.7, "five prompts are no proof"


def test_scores_are_of_this_runs_images(file):
    votes = read_votes([file])
    about, rows = scores_of(votes, [file], {f"b-p{i}" for i in range(40)})
    assert (about.scorer, about.low, about.high) == ("votes", 0.0, 1.0)
    assert sum(row["score"] for row in rows) == 30 + 4 * 0.5
    with pytest.raises(Refused, match="no vote is on an image of this run"):
        scores_of(votes, [file], {"other"})


def test_what_is_no_vote_is_named_by_its_line(tmp_path, file):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(line("p", "left") + '\n{"vote": "both"}\nnot json')
    with pytest.raises(Refused, match=r"(?s)bad.jsonl, line 2: is no vote.*bad.jsonl, line 3: is no vote"):
        read_votes([file, bad])
    bad.write_text("")
    with pytest.raises(Refused, match="There is no vote"):
        read_votes([bad])
