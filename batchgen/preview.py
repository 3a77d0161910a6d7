"""`batchgen render --limit N`: a few images of a job, beside its run, with the pixels that the run will have.

A preview is a run of its own, below OUT-preview, named by N and by the job: another N or another setting is another
preview, and OUT itself is not touched. Which rows it shows is sample.py's.
"""

from __future__ import annotations

from rich.console import Console

from batchgen import contact_page, contact_sheet, preflight
from batchgen.config import Job
from batchgen.errors import Refused
from batchgen.preflight import Prepared
from batchgen.run import Run

NAME_DIGITS = 8  # of the fingerprint
MOST_SHOWN = 200  # pictures of a contact sheet: more would be no preview, and too much for a mail


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


def conclude(run: Run, console: Console) -> None:
    """Draw the contact sheets of a finished preview and say where they lie."""
    paths = [contact_sheet.write(run, MOST_SHOWN), contact_page.write(run, MOST_SHOWN)]
    shown = f" ({MOST_SHOWN} of {run.planned})" if run.planned > MOST_SHOWN else ""
    text = f"To look at it{shown}: {' and '.join(path for path in paths if path)}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
