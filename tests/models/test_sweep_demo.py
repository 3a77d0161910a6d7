"""jobs/configs/sweep-demo.yaml in small: scores that measure something say that guidance and steps help.

20 of its prompts with two seeds in its four cells, judged by the pixel oracle and by the demo's CLIP. Intervals are
those of a bootstrap over prompts, paired: the same prompts and seeds in every cell.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import batchgen
from batchgen.evaluate.graph import score
from batchgen.evaluate.scorers import make_scorer
from batchgen.evaluate.scores import read_scores
from batchgen.evaluate.wanted import Wanted
from batchgen.job.file import job_from
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from tests.in_process import render_here

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "jobs" / "configs" / "sweep-demo.yaml"
PROMPTS = ROOT / "jobs" / "configs" / "sweep-demo.jsonl"
SCORERS = ("oracle", "demo-clip-100cos")


@pytest.fixture(scope="module")
def results(tmp_path_factory, one_thread):
    """Scenes of one thing are left out: the checkpoint draws most of them without guidance as well."""
    folder = tmp_path_factory.mktemp("sweep")
    rows = [line for line in PROMPTS.read_text().splitlines() if json.loads(line)["category"] != "single"][:20]
    (folder / "prompts.jsonl").write_text("\n".join(rows))
    values = yaml.safe_load(CONFIG.read_text())
    values |= {"input": {"path": str(folder / "prompts.jsonl")}, "output": {"path": str(folder / "run")}}
    values["model"]["batch_size"] = 20
    values["sampling"]["max_sequence_length"] = 24  # no prompt is longer: the same words in less time
    run = render_here(make_plan(prepare(job_from(values)))[0])
    score(run, ["oracle", "demo-clip"], device="cpu")
    return batchgen.open(run.store.url)


def by_prompt(results, scorer):
    """prompt_id → the mean score in each cell, (guidance, steps)."""
    table = results.to_pandas().merge(read_scores(results.run.store)[scorer].table, on="image_id")
    assert table["score"].notna().all()
    return table.pivot_table(index="prompt_id", columns=["guidance_scale", "num_inference_steps"], values="score")


def interval(per_prompt):
    """95 % of the means of 4,000 draws of prompts."""
    values = np.asarray(per_prompt)
    draws = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    return np.percentile(values[draws].mean(axis=1), [2.5, 97.5])


@pytest.mark.parametrize("scorer", SCORERS)
def test_adherence_rises_with_guidance_and_with_steps(results, scorer):
    cells = by_prompt(results, scorer)
    guidance = interval(cells[4.5, 28] - cells[1.0, 28])
    steps = interval(cells[4.5, 28] - cells[4.5, 4])
    interaction = interval((cells[4.5, 28] - cells[1.0, 28]) - (cells[4.5, 4] - cells[1.0, 4]))
    print(f"{scorer}: guidance {guidance}, steps {steps}, interaction {interaction}")
    assert guidance[0] > 0
    assert steps[0] > 0
    assert interaction[0] > 0  # guidance spoils what four steps can draw


def test_a_picture_fits_its_own_prompt_better_than_another(results):
    frame = results.to_pandas()
    frame = frame[(frame["guidance_scale"] == 4.5) & (frame["num_inference_steps"] == 28)]
    scorer, rows = make_scorer(Wanted("demo-clip")), frame.to_dict("records")
    scorer.load("cpu")
    pictures = [scorer.prepare(np.asarray(results.image(row["image_id"])), row) for row in rows]
    random = np.random.default_rng(0)

    def wins(prompt_for):
        """prompt_id → how often its pictures fit the prompt they are given better than a random other one."""
        found = {}
        for _ in range(10):
            own = [{"prompt": prompt_for(row)} for row in rows]
            other = [{"prompt": another(row["prompt"], mine["prompt"])} for row, mine in zip(rows, own, strict=True)]
            pairs = zip(rows, scorer.score(pictures, own), scorer.score(pictures, other), strict=True)
            for row, first, second in pairs:
                found.setdefault(row["prompt_id"], []).append(float(first.score > second.score))
        return [np.mean(one) for one in found.values()]

    def another(*taken):
        return random.choice([row["prompt"] for row in rows if row["prompt"] not in taken])

    assert interval(wins(lambda row: row["prompt"]))[0] > 0.9
    low, high = interval(wins(lambda row: another(row["prompt"])))
    assert low < 0.5 < high


def test_the_prompts_are_what_the_script_writes(tmp_path):
    file = tmp_path / "prompts.jsonl"
    subprocess.run([sys.executable, ROOT / "jobs" / "demo_prompts.py", file], check=True, cwd=ROOT)
    assert file.read_text() == PROMPTS.read_text()
    assert len(file.read_text().splitlines()) >= 200
