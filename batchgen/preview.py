"""`batchgen render --limit N`: a few images of a job, beside its run, with the pixels that the run will have.

A preview is a run of its own, below OUT-preview, named by N and by the job: another N or another setting is another
preview, and OUT itself is not touched. Which rows it shows is sample.py's.
"""

from __future__ import annotations

from batchgen import preflight
from batchgen.config import Job
from batchgen.errors import Refused
from batchgen.preflight import Prepared

NAME_DIGITS = 8  # of the fingerprint


def folder(out: str) -> str:
    """Where the previews of a run lie. Raises Refused where the run is a whole bucket, which has no beside."""
    out = out.rstrip("/")
    if "/" not in out.partition("://")[2] and "://" in out:
        raise Refused(f"output.path {out}: is a whole bucket, and a preview lies beside the run. Name a folder in it.")
    return f"{out}-preview"


def prepare_preview(job: Job, limit: int) -> Prepared:
    """The job, checked as for its full run, with its output below folder(). Raises as preflight.prepare() does."""
    full = preflight.prepare(job)
    path = f"{folder(job.output.path)}/{limit}-{full.fingerprint[:NAME_DIGITS]}"
    return preflight.elsewhere(full, path, {"--limit": limit})
