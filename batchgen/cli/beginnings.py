"""Commands that begin something: init, import, schema, demo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from batchgen.cli.program import app, console, errors, examples
from batchgen.evaluate.names import BENCHMARK_NAMES
from batchgen.words import say

PANEL = "Begin"


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen init prompts.parquet --out s3://bucket/run-17",
        'batchgen init "captions/*.jsonl" --preset demo --job try.yaml',
    ),
)
def init(
    manifest: Annotated[str, typer.Argument(help="Table of prompts: a file, a glob, a directory, a URL.")],
    job: Annotated[Path, typer.Option(help="The job file to write.")] = Path("job.yaml"),
    out: Annotated[str, typer.Option(help="Where the pictures will go.")] = "out/run",
    preset: Annotated[str, typer.Option(help="The model.")] = "sd3.5-medium",
) -> None:
    """Look at a table and write a commented job file for it. Overwrites nothing."""
    from batchgen.errors import Refused
    from batchgen.job.presets import PRESETS
    from batchgen.manifest.first_job import job_text

    with errors():
        if preset not in PRESETS:
            raise Refused(f"--preset {preset}: is not known. Presets: {', '.join(PRESETS)}.")
        text = job_text(manifest, out, preset)
        try:
            with job.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise Refused(f"--job {job}: cannot be written ({error.strerror}). Name another file.") from error
        say(console(), f"Wrote {job}. Look at it, then: batchgen plan {job}")


import_app = typer.Typer(
    help="Make a job file of a workflow, or a table of a benchmark's prompts.", no_args_is_help=True
)
app.add_typer(
    import_app, name="import", rich_help_panel=PANEL, epilog=examples("batchgen import comfyui workflow.json")
)


@import_app.command(
    epilog=examples(
        "batchgen import comfyui workflow.json",
        "batchgen import comfyui picture.png",
        "batchgen import comfyui workflow.json --models ~/ComfyUI/models --job castle.yaml --out out/castle",
    )
)
def comfyui(
    workflow: Annotated[
        Path,
        typer.Argument(help="Workflow of ComfyUI, in API or UI format, or a PNG that it saved.", metavar="WORKFLOW"),
    ],
    job: Annotated[Path, typer.Option(help="The job file to write; its prompts go beside it.")] = Path("job.yaml"),
    out: Annotated[str, typer.Option(help="Where the pictures will go.")] = "out/run",
    models: Annotated[
        Path | None, typer.Option(help="ComfyUI's folder of models, with checkpoints/, text_encoders/, vae/, loras/.")
    ] = None,
) -> None:
    """Write a job file and a prompt table for a ComfyUI workflow of SD3.5, and list what they cannot say."""
    from batchgen.comfyui import writing

    with errors():
        imported, manifest = writing.run(workflow, job, out, models)
        for line in writing.summary(imported, job, manifest):
            say(console(), line)


def _import_of(benchmark: str) -> Callable[..., None]:
    """The command `batchgen import <benchmark>`."""

    def command(
        files: Annotated[list[str], typer.Argument(help="Its prompt files, or their folder.", metavar="FILE...")],
        output: Annotated[str, typer.Option("--output", "-o", help="The table to write.")] = f"{benchmark}.parquet",
        images: Annotated[
            int | None, typer.Option(min=1, help="Of each prompt, where not as the benchmark says.")
        ] = None,
    ) -> None:
        from batchgen.evaluate.importing import import_benchmark

        with errors():
            found = import_benchmark(benchmark, files, output, images)
            categories = ", ".join(f"{name}: {count}" for name, count in found.categories.items())
            each = f", {found.images} images each" if found.images else ""
            say(console(), f"Wrote {found.manifest}: {found.prompts} prompts{each} ({categories}).")
            if found.repeated:
                say(console(), f"note: {found.repeated} prompts have the text of one before them, and are kept.")
            say(console(), f"Licence of the prompts: {found.licence}. sha256 of what they came from: {found.sha256}")
            say(console(), f"Then: batchgen init {found.manifest}")

    return command


for _name, _title in BENCHMARK_NAMES.items():
    _example = examples(f"batchgen import {_name} FILE -o {_name}.parquet")
    import_app.command(_name, help=f"Write a table of the prompts of {_title}.", epilog=_example)(_import_of(_name))


@app.command(rich_help_panel=PANEL, epilog=examples("batchgen schema > job.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from batchgen.job.file import schema

    print(json.dumps(schema(), indent=1))


@app.command(rich_help_panel=PANEL, epilog=examples("batchgen demo --out /tmp/demo"))
def demo(
    out: Annotated[str, typer.Option(help="Where to put the dataset.")] = "out/demo",
) -> None:
    """Render the small prompt table that ships with batchgen, on the CPU, with a tiny checkpoint."""
    from batchgen import report, session
    from batchgen.demo import demo_job
    from batchgen.look.results import truncated

    with errors():
        finished = session.render(demo_job(out), console())
        report.print_truncated(console(), truncated(finished.run))
        report.print_finished(console(), finished)
