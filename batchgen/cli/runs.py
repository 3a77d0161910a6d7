"""Commands on a job and on its run: plan, render, status, doctor, show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from batchgen.cli.program import AsJson, JobFile, Overrides, RunPath, app, console, errors, examples
from batchgen.words import say

PANEL = "Render and look"

Extend = Annotated[
    bool, typer.Option("--extend", help="OUT may hold a run of fewer rows, samples or cells: add what is new.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Render the images that failed once more.")]
Strict = Annotated[bool, typer.Option("--strict", help="End with exit code 3 if any image failed.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Render a preview of so many images, in OUT-preview; their pixels are the full run's."),
]
MaxGpuHours = Annotated[
    float | None,
    typer.Option(min=0.0, help="Stop cleanly when this session has used so many; run it again to go on."),
]


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen plan job.yaml",
        'batchgen plan job.yaml --set sampling.guidance_scale=6 --set "sweep={height: [512, 1024]}"',
    ),
)
def plan(job: JobFile, overrides: Overrides = None, extend: Extend = False) -> None:
    """Show what would happen: images per bucket and cell, overflow, cost, problems. Writes nothing."""
    from batchgen import report
    from batchgen.cost import estimate, measured
    from batchgen.job.file import load_jobs
    from batchgen.plan.graph import survey
    from batchgen.plan.preflight import prepare_all

    with errors():
        for name, prepared in prepare_all(load_jobs(job, overrides), extend=extend, look_only=True).items():
            summary = survey(prepared)
            cost = estimate.lines(prepared.job, summary, measured.find(prepared), str(job))
            report.print_name(console(), name)
            report.print_plan(console(), prepared, summary, cost)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen render job.yaml --limit 20",
        "batchgen render job.yaml",
        "batchgen render job.yaml --extend --set sampling.num_images_per_prompt=8",
        "batchgen render job.yaml --retry-failed --max-gpu-hours 50",
    ),
)
def render(
    job: JobFile,
    overrides: Overrides = None,
    extend: Extend = False,
    retry_failed: RetryFailed = False,
    strict: Strict = False,
    limit: Limit = None,
    max_gpu_hours: MaxGpuHours = None,
) -> None:
    """Plan if needed, render what is missing, finalize. Run it again to continue."""
    from batchgen import report, session
    from batchgen.job.file import load_jobs

    options = session.Options(
        strict=strict, extend=extend, retry_failed=retry_failed, limit=limit, max_gpu_hours=max_gpu_hours
    )
    with errors():
        for finished in session.render_all(load_jobs(job, overrides), console(), options):
            report.print_finished(console(), finished)


@app.command(rich_help_panel=PANEL, epilog=examples("batchgen status s3://bucket/run-17"))
def status(out: RunPath, as_json: AsJson = False) -> None:
    """Show how far a run is: done, missing, failed, images per second, time left; of a complete one what is alike."""
    from batchgen import report
    from batchgen.look.status import full_status
    from batchgen.run.directory import Run

    with errors():
        found = {name: full_status(run) for name, run in Run.all_at(out).items()}
        if as_json:
            print(_json({name: one.to_dict() for name, one in found.items()}))
            return
        for name, one in found.items():
            report.print_name(console(), name)
            report.print_status(console(), one)


@app.command(rich_help_panel=PANEL, epilog=examples("batchgen doctor out/run --rerender 20"))
def doctor(
    out: RunPath,
    rerender: Annotated[int, typer.Option(help="Render so many images again and compare their pixels.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Prove a run: every planned row once, every byte as written, nothing foreign. Exit code 1 if it is not."""
    from batchgen import report
    from batchgen.look import again
    from batchgen.look.doctor import examine
    from batchgen.run.directory import Run

    found = {}
    with errors():
        for name, run in Run.all_at(out).items():
            found[name] = examine(run)
            if rerender:
                again.rerender(run, rerender, found[name])
            if not as_json:
                report.print_name(console(), name)
                report.print_doctor(console(), found[name])
        if as_json:
            print(_json({name: asdict(examined) for name, examined in found.items()}))
    raise typer.Exit(1 if any(examined.problems for examined in found.values()) else 0)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples("batchgen show out/run 5f0c1a...", "batchgen show out/run 5f0c1a... --rerender"),
)
def show(
    out: RunPath,
    image_id: Annotated[str, typer.Argument(help="As in metadata/.", metavar="IMAGE_ID")],
    rerender: Annotated[bool, typer.Option("--rerender", help="Render it again and compare its pixels.")] = False,
) -> None:
    """Show all that is known of one image, the command that renders it again, and the diffusers code for it."""
    from batchgen import report
    from batchgen.look.results import Results

    problem = None
    with errors():
        results = Results(out)
        row = results.row(image_id)
        report.print_image(console(), results.run, row)
        if rerender:
            from batchgen.look.again import render_again

            problem = render_again(results.run, results.stored(row), json.loads(row["versions"]))
            say(console(), problem or "rendered again: the same pixels")
    raise typer.Exit(1 if problem else 0)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen sheet out/run",
        "batchgen sheet out/run --group-by category --most 120 --out categories.png",
        "batchgen sheet s3://bucket/run-17 --out run-17.html",
    ),
)
def sheet(
    out: RunPath,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="COLUMN", help="A column of metadata/; without it the cells.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many pictures, spread over the run.")] = 60,
    file: Annotated[
        Path | None, typer.Option("--out", help="A .png or .html to write; else OUT/contact_sheet.png.")
    ] = None,
) -> None:
    """Draw a contact sheet: a fair sample of small pictures with prompts and seeds, cells of a sweep side by side."""
    from batchgen import report
    from batchgen.errors import Refused
    from batchgen.look.sheets import draw_to
    from batchgen.run.directory import Run

    with errors():
        runs = Run.all_at(out)
        if file is not None and len(runs) > 1:
            raise Refused(f"--out {file}: is one file. {out} holds {len(runs)} runs: name one of them.")
        for name, run in runs.items():
            report.print_name(console(), name)
            say(console(), f"To look at it: {draw_to(run, file, most, group_by)}")


def _json(of: Mapping[str, object]) -> str:
    """One line: of one run what there is, of several by the names of their models."""
    return json.dumps(of.get("", of))
