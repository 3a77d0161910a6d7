"""How far does the demo's small CLIP agree with the pixel oracle, on pictures that were rendered? Whatever it is.

Scores a run of the demo's world by both, jobs/configs/sweep-demo.yaml for example. The last line is JSON:

    agreement       chance that of two pictures the one that the oracle finds right has the higher CLIP score
    same_prompt     the same of two pictures of one prompt, and so what a comparison of settings rests on
    spearman        rank correlation of both over all pictures

    batchgen render jobs/configs/sweep-demo.yaml
    python jobs/bench/demo_scorers.py out/sweep-demo
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import batchgen
from batchgen.evaluate.graph import score
from batchgen.evaluate.scores import read_scores

ORACLE, CLIP = "oracle", "demo-clip-100cos"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="A run that is rendered.")
    results = batchgen.open(parser.parse_args().out)
    score(results.run, ["oracle", "demo-clip"])
    frame = results.to_pandas()
    for name, scores in read_scores(results.run.store, [ORACLE, CLIP]).items():
        found = scores.table.set_index("image_id")["score"]
        frame[name] = frame["image_id"].map(found)
    frame = frame.dropna(subset=[ORACLE, CLIP])
    print_cells(frame)
    summary = {
        "agreement": share_of_pairs([frame]),
        "same_prompt": share_of_pairs(group for _, group in frame.groupby("prompt")),
        "spearman": round(float(spearmanr(frame[ORACLE], frame[CLIP]).statistic), 4),
        "pictures": len(frame),
        "right": round(float(frame[ORACLE].mean()), 4),
    }
    print(json.dumps(summary))


def share_of_pairs(groups: Iterable[pd.DataFrame]) -> float:
    """Of all pairs of a right and a wrong picture within a group: where CLIP prefers the right one. A tie is half."""
    better, pairs = 0.0, 0
    for group in groups:
        right, wrong = (group.loc[group[ORACLE] == value, CLIP].to_numpy() for value in (1.0, 0.0))
        differences = right[:, None] - wrong[None, :]
        better += float((differences > 0).sum() + (differences == 0).sum() / 2)
        pairs += differences.size
    return round(better / pairs, 4) if pairs else float(np.nan)


def print_cells(frame: pd.DataFrame) -> None:
    table = Table("guidance", "steps", ORACLE, CLIP, box=None, pad_edge=False)
    for (guidance, steps), cell in frame.groupby(["guidance_scale", "num_inference_steps"]):
        table.add_row(f"{guidance:g}", f"{steps}", f"{cell[ORACLE].mean():.1%}", f"{cell[CLIP].mean():.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
