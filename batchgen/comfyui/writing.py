"""What was read of a workflow → a commented job file, and the table of its prompts beside it.

Writes text and two files, and overwrites none. What is lost on the way stands at the top of the job file.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from batchgen.comfyui import reading, workflow
from batchgen.comfyui.findings import Loss
from batchgen.comfyui.graph import printable
from batchgen.comfyui.reading import Imported
from batchgen.errors import Problem, Refused
from batchgen.job.file import inline_yaml, job_from

WIDTH = 118
REMARKS = {
    "sampling.max_sequence_length": "T5 tokens; ComfyUI pads to 77 and cuts nothing, batchgen plan says what is cut",
    "sampling.num_images_per_prompt": "seeds count up from that of the row",
}


def manifest_of(job: Path) -> Path:
    """The table of prompts lies beside the job file."""
    return job.with_name(f"{job.stem}-prompts.jsonl")


def write(imported: Imported, workflow: Path, job: Path, out: str) -> Path:
    """Write both files and return the path of the table. Raises Refused where one is there, or cannot be written."""
    manifest = manifest_of(job)
    text = job_text(imported, workflow.name, str(manifest), out)
    job_from(yaml.safe_load(text), f"{workflow}, as a job")  # what a workflow may say and a job may not
    existing = [path for path in (job, manifest) if path.exists()]
    if existing:
        raise Refused([Problem("is there already. Name another file with --job.", str(path)) for path in existing])
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in imported.rows)
    _create(manifest, rows)
    try:
        _create(job, text)
    except Refused:
        manifest.unlink()
        raise
    return manifest


def _create(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Refused(f"--job {path}: cannot be written ({error.strerror}). Name another file.") from error


def job_text(imported: Imported, workflow: str, manifest: str, out: str) -> str:
    """The job file. Comes back from YAML as the sections of `imported`."""
    remarks = REMARKS | imported.remarks
    rows = f"{len(imported.rows)} rows" if len(imported.rows) > 1 else "one row"
    parts = [
        *_comment(f"A job for batchgen, from the ComfyUI workflow {printable(workflow)}."),
        *_comment("Look before paying: batchgen plan THIS_FILE, then batchgen render THIS_FILE."),
        *_comment(
            "The first image of a batch begins with ComfyUI's noise, each other one with noise of its own. No picture "
            "is the same to the last bit."
        ),
        *_losses(imported.losses),
        "",
        "input:",
        *_comment(f"The workflow's prompt with its seed, {rows}: add more, or name another table.", "  "),
        f"  path: {inline_yaml(manifest)}",
        "",
        "model:",
        *_settings(imported.model, "model", remarks),
        "",
        "sampling:                      # for what a row does not say",
        *_settings(imported.sampling, "sampling", remarks),
        "",
    ]
    if imported.refine is not None:
        parts += [
            "refine:                        # the second pass",
            *_settings(imported.refine, "refine", remarks),
            "",
        ]
    parts += ["output:", f"  path: {inline_yaml(out)}", "  # image_format: png          # or webp, jpeg", ""]
    return "\n".join(parts)


def _losses(losses: Sequence[Loss]) -> Iterator[str]:
    if not losses:
        return
    yield "#"
    yield "# What the workflow does and this job does not, by node:"
    for loss in losses:
        yield from _comment(f"- {loss}", hanging="  ")


def _settings(section: Mapping[str, Any], where: str, remarks: Mapping[str, str], indent: str = "  ") -> Iterator[str]:
    for key, value in section.items():
        remark = remarks.get(f"{where}.{key}", "")
        behind = f"   # {remark}" if remark else ""
        if isinstance(value, dict) and key in ("adapters", "model"):
            yield f"{indent}{key}:{behind}"
            yield from _settings(value, f"{where}.{key}", remarks, indent + "  ")
        else:
            yield f"{indent}{key}: {inline_yaml(value)}{behind}"


def _comment(text: str, indent: str = "", hanging: str = "") -> list[str]:
    """Lines of a comment; nothing in the text can end one."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return textwrap.wrap(
        plain,
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# {hanging}",
        break_on_hyphens=False,
    )


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
        imported = reading.read(graph, models)
    except Refused as refusal:
        problems = [Problem(f"{problem}", str(path)) for problem in refusal.problems]
        raise Refused(problems) from None
    return imported, write(imported, path, job, out)


def summary(imported: Imported, job: Path, manifest: Path) -> Iterator[str]:
    """For the terminal: what was written, what is lost."""
    yield f"Wrote {job} and {manifest}. Look at them, then: batchgen plan {job}"
    if imported.losses:
        yield "What the workflow does and this job does not, by node:"
        for loss in imported.losses:
            yield f"  - {loss}"
