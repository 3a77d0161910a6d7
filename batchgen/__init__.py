"""batchgen turns a table of prompts into a dataset of images. Importing it loads neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from batchgen.look.results import Results

__version__ = "0.1.0"


def render(
    job: str | Path | Mapping[str, Any],
    *,
    strict: bool = False,
    extend: bool = False,
    retry_failed: bool = False,
    limit: int | None = None,
    max_gpu_hours: float | None = None,
) -> Results:
    """Bring a job to its end, as `batchgen render` with the same options does, and open what came of it.

    Again: continue it. job: the path of a job file, or what would stand in one: {"input": {"path": ...}, "output":
    {"path": ...}, ...}. Raises Refused, RunMismatch, Infrastructure, TooManyFailures, BudgetSpent, all of
    batchgen.errors.
    """
    from rich.console import Console

    from batchgen import session
    from batchgen.job.file import job_from, load_job

    options = session.Options(
        strict=strict, extend=extend, retry_failed=retry_failed, limit=limit, max_gpu_hours=max_gpu_hours
    )
    loaded = job_from(dict(job)) if isinstance(job, Mapping) else load_job(job)
    return open(session.render(loaded, Console(), options).run.store.url)


def open(out: str) -> Results:
    """The run in a directory, a path or a URL, as data: .to_pandas(), .row(image_id), .image(image_id), .dataset()."""
    from batchgen.look.results import Results

    return Results(out)
