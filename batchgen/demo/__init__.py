"""The demonstration: prompts and a tiny checkpoint, so that batchgen works without GPU, network or gated weights."""

from __future__ import annotations

from pathlib import Path

from batchgen.job import Job
from batchgen.job.file import job_from

PROMPTS = Path(__file__).parent / "prompts.jsonl"


def demo_job(out: str) -> Job:
    """What jobs/configs/demo.yaml says, with paths that hold wherever batchgen is installed."""
    return job_from(
        {
            "input": {"path": str(PROMPTS)},
            "model": {"preset": "demo"},
            "sampling": {"seed": 0},
            "output": {"path": out, "images_per_shard": 4},
        }
    )
