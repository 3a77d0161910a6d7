"""The contact sheets of a preview and the speed that it measured, for whoever decides whether to pay."""

from __future__ import annotations

from collections.abc import Iterator

from batchgen import contact_page, contact_sheet, estimate, measured
from batchgen.config import Job
from batchgen.run import Run

MOST_SHOWN = 200  # pictures of a contact sheet: more would be no preview, and too much for a mail


def lines(run: Run, job: Job) -> Iterator[str]:
    """Draw the contact sheets of a finished preview; yields what there is to say."""
    paths = [contact_sheet.write(run, MOST_SHOWN), contact_page.write(run, MOST_SHOWN)]
    shown = f" ({MOST_SHOWN} of {run.planned})" if run.planned > MOST_SHOWN else ""
    yield f"To look at it{shown}: {' and '.join(path for path in paths if path)}"
    if found := measured.measure(run, job.output):
        memory = f", peak memory {estimate.size(found.peak_memory)}" if found.peak_memory is not None else ""
        yield f"Measured on {found.device}: {estimate.seconds_per_image([*found.seconds.values()])}{memory}."
        yield "batchgen plan now says what all images would cost at that speed."
