"""batchgen turns a table of prompts into a dataset of images. Importing it loads neither Ray nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from batchgen.look.results import Results

__version__ = "0.1.0"


def render(
    job: str | Path | Mapping[str, Any], *, strict: bool = False, extend: bool = False, retry_failed: bool = False
) -> Results:
    """Bring a job to its end, as `batchgen render` does, and open what came of it. Again: continue it.

    job: the path of a job file, or what would stand in one: {"input": {"path": ...}, "output": {"path": ...}, ...}.
    Raises Refused, RunMismatch, Infrastructure, TooManyFailures, all of batchgen.errors.
    """
    from rich.console import Console

    from batchgen import session
    from batchgen.job.file import job_from, load_job

    found = job_from(dict(job)) if isinstance(job, Mapping) else load_job(job)
    finished = session.render(found, Console(), strict=strict, extend=extend, retry_failed=retry_failed)
    return open(finished.run.store.url)


def open(out: str) -> Results:
    """The run in a directory, a path or a URL, as data: .to_pandas(), .row(image_id), .image(image_id), .dataset()."""
    from batchgen.look.results import Results

    return Results(out)
