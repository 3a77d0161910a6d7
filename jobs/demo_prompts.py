"""Writes jobs/configs/sweep-demo.jsonl: prompts of the demo's world that its checkpoint was never trained on.

    python jobs/demo_prompts.py [FILE]

The same file every time. Knows the demo's world and no job.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

from batchgen.demo.world import prompt_of, random_scene

FILE = Path(__file__).parent / "configs" / "sweep-demo.jsonl"
KINDS = {"single": 80, "two": 80, "counted": 80}  # one thing; two with a relation; two or three alike


def prompts() -> list[dict[str, str]]:
    """Categories take turns, so that the first rows are a fair sample."""
    random, rows = Random("sweep"), dict[str, dict[str, str]]()
    while len(rows) < sum(KINDS.values()):
        kind = [*KINDS][len(rows) % len(KINDS)]
        scene = random_scene(random, kind)
        if scene.held_out:
            prompt = prompt_of(scene, random)
            rows.setdefault(prompt, {"prompt": prompt, "id": f"demo-{len(rows):03}", "category": kind})
    return list(rows.values())


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_text("".join(json.dumps(row) + "\n" for row in prompts()))
