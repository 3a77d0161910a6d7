"""One `batchgen import comfyui` from beginning to end: load, read, write, and say what happened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batchgen.comfyui import reading, workflow, writing
from batchgen.comfyui.places import Models
from batchgen.comfyui.reading import Imported
from batchgen.errors import Problem, Refused


def run(path: Path, job: Path, out: str, models: Path | None = None) -> tuple[Imported, Path]:
    """Write the job file and its prompt table; return what was read and the table's path. Raises Refused.

    models: ComfyUI's folder of models, which completes the names of files. Nothing in it is opened.
    """
    if models is not None:
        models = models.expanduser()
        if not models.is_dir():
            raise Refused(f"--models {models}: is no directory. Name ComfyUI's folder of models, or leave it out.")
    graph = workflow.load(path)
    try:
        imported = reading.read(graph, Models(models))
    except Refused as refusal:
        problems = [Problem(f"{problem}", str(path)) for problem in refusal.problems]
        raise Refused(problems) from None
    return imported, writing.write(imported, path, job, out)


def said(imported: Imported, job: Path, manifest: Path) -> Iterator[str]:
    """For the terminal: what was written, what is lost."""
    yield f"Wrote {job} and {manifest}. Look at them, then: batchgen plan {job}"
    if imported.losses:
        yield "What the workflow does and this job does not, by node:"
        for loss in imported.losses:
            yield f"  - {loss}"
