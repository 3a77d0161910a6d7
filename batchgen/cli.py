"""The command line: parse, call, print, exit code. No logic of its own, no heavy import before a command needs it."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from batchgen.errors import BatchgenError
from batchgen.words import say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
JobFile = Annotated[Path, typer.Argument(help="Job file, YAML.", metavar="JOB.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set sampling.num_inference_steps=28"),
]
RunPath = Annotated[str, typer.Argument(help="Run directory: local path or URL.", metavar="OUT")]
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

AsJson = Annotated[bool, typer.Option("--json", help="Print it as one line of JSON.")]


def _examples(*commands: str) -> str:
    """Of a command, below its options; a blank line keeps each on a line of its own."""
    return "\n\n".join(["Examples:", *commands])


def _say_version(asked: bool) -> None:
    if asked:
        import batchgen

        print(f"batchgen {batchgen.__version__}")
        raise typer.Exit


@app.callback()
def batchgen_itself(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Turn a table of prompts into a dataset of images.

    Running a command again continues where it ended.
    """


class Interrupted(BaseException):
    """SIGTERM came. Not an Exception: nothing on the way may swallow it."""


INTERRUPTIONS = {130: "Interrupted", 143: "Ended by SIGTERM"}  # exit code: what is said


@app.command(
    epilog=_examples(
        "batchgen plan job.yaml",
        'batchgen plan job.yaml --set sampling.guidance_scale=6 --set "sweep={height: [512, 1024]}"',
    )
)
def plan(job: JobFile, overrides: Overrides = None, extend: Extend = False) -> None:
    """Show what would happen: images per bucket and cell, overflow, cost, problems. Writes nothing."""
    from batchgen import report
    from batchgen.cost import estimate, measured
    from batchgen.job.file import load_jobs
    from batchgen.plan.graph import survey
    from batchgen.plan.preflight import prepare_all

    with _errors():
        for name, prepared in prepare_all(load_jobs(job, overrides), extend=extend, look_only=True).items():
            summary = survey(prepared)
            cost = estimate.lines(prepared.job, summary, measured.find(prepared), str(job))
            report.print_name(_console(), name)
            report.print_plan(_console(), prepared, summary, cost)


@app.command(
    epilog=_examples(
        "batchgen render job.yaml --limit 20",
        "batchgen render job.yaml",
        "batchgen render job.yaml --extend --set sampling.num_images_per_prompt=8",
        "batchgen render job.yaml --retry-failed --max-gpu-hours 50",
    )
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
    with _errors():
        for finished in session.render_all(load_jobs(job, overrides), _console(), options):
            report.print_finished(_console(), finished)


@app.command(epilog=_examples("batchgen status s3://bucket/run-17"))
def status(out: RunPath, as_json: AsJson = False) -> None:
    """Show how far a run is: done, missing, failed, images per second, time left."""
    from batchgen import report
    from batchgen.look.status import status_of
    from batchgen.run.directory import Run

    with _errors():
        found = {name: status_of(run) for name, run in Run.all_at(out).items()}
        if as_json:
            print(_json({name: one.to_dict() for name, one in found.items()}))
            return
        for name, one in found.items():
            report.print_name(_console(), name)
            report.print_status(_console(), one)


@app.command(epilog=_examples("batchgen doctor out/run --rerender 20"))
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
    with _errors():
        for name, run in Run.all_at(out).items():
            found[name] = examine(run)
            if rerender:
                again.rerender(run, rerender, found[name])
            if not as_json:
                report.print_name(_console(), name)
                report.print_doctor(_console(), found[name])
        if as_json:
            print(_json({name: asdict(examined) for name, examined in found.items()}))
    raise typer.Exit(1 if any(examined.problems for examined in found.values()) else 0)


@app.command(epilog=_examples("batchgen show out/run 5f0c1a...", "batchgen show out/run 5f0c1a... --rerender"))
def show(
    out: RunPath,
    image_id: Annotated[str, typer.Argument(help="As in metadata/.", metavar="IMAGE_ID")],
    rerender: Annotated[bool, typer.Option("--rerender", help="Render it again and compare its pixels.")] = False,
) -> None:
    """Show all that is known of one image, the command that renders it again, and the diffusers code for it."""
    from batchgen import report
    from batchgen.look.results import Results

    problem = None
    with _errors():
        results = Results(out)
        row = results.row(image_id)
        report.print_image(_console(), results.run, row)
        if rerender:
            from batchgen.look.again import render_again

            problem = render_again(results.run, results.stored(row), json.loads(row["versions"]))
            say(_console(), problem or "rendered again: the same pixels")
    raise typer.Exit(1 if problem else 0)


@app.command(
    epilog=_examples(
        "batchgen init prompts.parquet --out s3://bucket/run-17",
        'batchgen init "captions/*.jsonl" --preset demo --job try.yaml',
    )
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

    with _errors():
        if preset not in PRESETS:
            raise Refused(f"--preset {preset}: is not known. Presets: {', '.join(PRESETS)}.")
        text = job_text(manifest, out, preset)
        try:
            with job.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise Refused(f"--job {job}: cannot be written ({error.strerror}). Name another file.") from error
        say(_console(), f"Wrote {job}. Look at it, then: batchgen plan {job}")


import_app = typer.Typer(help="Make a job file of what another program wrote.", no_args_is_help=True)
app.add_typer(import_app, name="import", epilog=_examples("batchgen import comfyui workflow.json"))


@import_app.command(
    epilog=_examples(
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

    with _errors():
        imported, manifest = writing.run(workflow, job, out, models)
        for line in writing.summary(imported, job, manifest):
            say(_console(), line)


@app.command(epilog=_examples("batchgen schema > job.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from batchgen.job.file import schema

    print(json.dumps(schema(), indent=1))


@app.command(epilog=_examples("batchgen demo --out /tmp/demo"))
def demo(
    out: Annotated[str, typer.Option(help="Where to put the dataset.")] = "out/demo",
) -> None:
    """Render the small prompt table that ships with batchgen, on the CPU, with a tiny checkpoint."""
    from batchgen import report, session
    from batchgen.demo import demo_job
    from batchgen.look import contact_sheet
    from batchgen.look.results import truncated

    with _errors():
        finished = session.render(demo_job(out), _console())
        sheet = contact_sheet.write(finished.run)
        report.print_truncated(_console(), truncated(finished.run))
        report.print_finished(_console(), finished)
        report.print_sheet(_console(), sheet)


def _json(of: Mapping[str, object]) -> str:
    """One line: of one run what there is, of several by the names of their models."""
    return json.dumps(of.get("", of))


@contextmanager
def _errors() -> Iterator[None]:
    """Errors of ours and interruptions become one message and an exit code; anything else is a bug and shows itself."""
    before = signal.signal(signal.SIGTERM, _raise_interrupted)
    try:
        yield
    except BaseException as error:
        if (code := _interruption(error)) is not None:
            _fail(f"{INTERRUPTIONS[code]}. Run the same command again to continue.", code)
        if isinstance(error, BatchgenError):
            _fail(str(error), error.exit_code)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _interruption(error: BaseException | None) -> int | None:
    """The exit code where this began as an interruption: one in the middle of a wait makes other errors on its way."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt | Interrupted):
            return 130 if isinstance(error, KeyboardInterrupt) else 143
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _raise_interrupted(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr if code else sys.stdout, flush=True)
    raise typer.Exit(code)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a prompt must not break a console that is not UTF-8
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Ray's workers are many; one thread each is enough
    app()
