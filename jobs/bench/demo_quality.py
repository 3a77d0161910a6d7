"""Does the demo checkpoint draw what the prompt says? 400 held-out prompts through batchgen, judged by the oracle.

One run with a sweep: guidance 1 and 4.5, 4 and 28 steps, the same seeds in each cell. The ceiling is the oracle's own
score on scenes that were drawn, not rendered. The last line is JSON, in shares of 1:

    single, two     scenes of one thing, of two with a relation, that are right in colour, shape, number and place
    counted         the same of two or three things alike
    guidance_gain   share right at guidance 4.5 less that at 1, over all 400, 28 steps
    steps_gain      share right after 28 steps less that after 4, over all 400, guidance 4.5

    python jobs/bench/demo_quality.py [--out DIRECTORY]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from batchgen import session
from batchgen.demo.oracle import shows
from batchgen.demo.world import SIDES, draw, prompt_of, random_scene
from batchgen.job.file import job_from

KINDS = {"single": 160, "two": 160, "counted": 80}
GUIDANCE, STEPS = (1.0, 4.5), (4, 28)
Cell = tuple[float, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="Keep the pictures here; run again with it to judge them again.")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        asked = questions()
        pq.write_table(manifest(asked), f"{folder}/held_out.parquet")
        run = render(f"{folder}/held_out.parquet", out or f"{folder}/run")
        scores = judge(asked, Path(run))
    print_table(scores, ceiling(asked))
    print(json.dumps(summary(scores)))


def questions() -> list[dict[str, Any]]:
    """Scenes that training never showed, in all sizes and phrasings; the same every time."""
    random, asked, seen = Random("held out"), list[dict[str, Any]](), set[str]()
    for kind, count in KINDS.items():
        wanted = len(asked) + count
        while len(asked) < wanted:
            scene = random_scene(random, kind)
            height, width = random.choice(SIDES), random.choice(SIDES)
            prompt = prompt_of(scene, random)
            if scene.held_out and prompt not in seen and max(height, width) <= 2 * min(height, width):
                seen.add(prompt)
                asked.append({"kind": kind, "scene": scene, "prompt": prompt, "height": height, "width": width})
    random.shuffle(asked)
    return asked


def manifest(asked: list[dict[str, Any]]) -> pa.Table:
    names = ("prompt", "height", "width")
    columns = {name: [question[name] for question in asked] for name in names}
    return pa.table(columns | {"question": list(range(len(asked)))})


def render(manifest_path: str, out: str) -> str:
    job = job_from(
        {
            "input": {"path": manifest_path},
            "model": {"preset": "demo"},
            "sampling": {"seed": 0},
            "sweep": {"guidance_scale": list(GUIDANCE), "num_inference_steps": list(STEPS)},
            "output": {"path": out},
            "cluster": {"renderers": {"min_size": 1, "max_size": os.cpu_count()}},
        }
    )
    return session.render(job, Console(stderr=True)).run.store.url


def judge(asked: list[dict[str, Any]], run: Path) -> dict[Cell, dict[str, list[bool]]]:
    """Cell → kind → for every picture whether it shows its own prompt's scene."""
    scores: dict[Cell, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row in pq.read_table(run / "data").to_pylist():
        question = asked[row["question"]]
        picture = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        cell = row["guidance_scale"], row["num_inference_steps"]
        scores[cell][question["kind"]].append(shows(picture, question["scene"]))
    return scores


def ceiling(asked: list[dict[str, Any]]) -> dict[str, list[bool]]:
    """The oracle's verdict on the same scenes as they were meant."""
    random, right = Random("ceiling"), defaultdict[str, list[bool]](list)
    for question in asked:
        scene = question["scene"]
        right[question["kind"]].append(shows(draw(scene, question["height"], question["width"], random), scene))
    return right


def share(right: list[bool]) -> float:
    return round(sum(right) / len(right), 4)


def overall(by_kind: dict[str, list[bool]]) -> float:
    return share([one for right in by_kind.values() for one in right])


def summary(scores: dict[Cell, dict[str, list[bool]]]) -> dict[str, Any]:
    best = scores[4.5, 28]
    return {kind: share(best[kind]) for kind in KINDS} | {
        "guidance_gain": round(overall(best) - overall(scores[1.0, 28]), 4),
        "steps_gain": round(overall(best) - overall(scores[4.5, 4]), 4),
        "prompts": sum(KINDS.values()),
    }


def print_table(scores: dict[Cell, dict[str, list[bool]]], drawn: dict[str, list[bool]]) -> None:
    table = Table("right, of held-out prompts", *KINDS, "all", box=None, pad_edge=False)
    rows = {"drawn, the ceiling": drawn} | {
        f"guidance {guidance:g}, {steps} steps": scores[guidance, steps] for guidance, steps in sorted(scores)[::-1]
    }
    for name, by_kind in rows.items():
        table.add_row(name, *(f"{share(by_kind[kind]):.1%}" for kind in KINDS), f"{overall(by_kind):.1%}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
