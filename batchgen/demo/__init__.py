"""The demonstration: prompts, a tiny checkpoint and a tiny CLIP, for work without GPU, network or gated weights.

Knows the job file, and nothing of how a job is rendered."""

from __future__ import annotations

from pathlib import Path

from batchgen.job import Job
from batchgen.job.file import job_from

PROMPTS = Path(__file__).parent / "prompts.jsonl"
CLIP = Path(__file__).parent / "clip"  # tells drawings of the demo's world from each other


def demo_job(out: str) -> Job:
    """The job of jobs/configs/demo.yaml, with a path to the prompts that is right wherever batchgen is installed."""
    return job_from(
        {
            "input": {"path": str(PROMPTS)},
            "model": {"preset": "demo"},
            "sampling": {"seed": 0},
            "output": {"path": out, "images_per_shard": 4},
        }
    )
