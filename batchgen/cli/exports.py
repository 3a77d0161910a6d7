"""The command `export`: a run as files that other programs read."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from batchgen.cli.evaluations import PANEL, SelectionName
from batchgen.cli.program import app, console, errors, examples
from batchgen.words import say


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen export out/run out/tars --to webdataset",
        'batchgen export out/run out/lora --to kohya --repeats 10 --where "suspect is null"',
        "batchgen export out/run out/for-geneval --to geneval",
        "batchgen export geneval.parquet images/of/somebody --to geneval --check",
    ),
)
def export(
    out: Annotated[str, typer.Argument(help="Run directory; with --check also a benchmark's table.", metavar="OUT")],
    dest: Annotated[str, typer.Argument(help="The folder to write, or to check: local path or URL.", metavar="DEST")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Who reads it: webdataset, mds, imagefolder, kohya, folder; a benchmark's scorer; evalscope.",
        ),
    ],
    where: Annotated[str | None, typer.Option(help="Only images for which this SQL holds, as of select.")] = None,
    selection: SelectionName = None,
    dedupe: Annotated[
        str | None, typer.Option(metavar="phash:BITS", help="Of pictures that differ in at most so many bits keep one.")
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help="A column, or a template such as '{prompt}, {style}'; without it the prompt.")
    ] = None,
    image_format: Annotated[
        str | None, typer.Option(help="png, webp or jpeg; without it pictures stay as they are stored.")
    ] = None,
    image_quality: Annotated[int | None, typer.Option(help="Of webp and jpeg, 1 to 100.")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Images of a shard, of webdataset and mds.")] = None,
    mix_buckets: Annotated[
        bool, typer.Option("--mix-buckets", help="Sizes among each other, and not one after the other.")
    ] = False,
    repeats: Annotated[int | None, typer.Option(help="How often kohya shows each image in an epoch.")] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Write no prompt and no origin into the pictures.")] = False,
    actors: Annotated[int | None, typer.Option(min=1, help="How many write at the same time, on Ray.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: say what that scorer would pass over in DEST.")
    ] = False,
) -> None:
    """Write what another program reads, or check it. Run it again to continue."""
    from batchgen.errors import Refused
    from batchgen.evaluate.selection import selected
    from batchgen.export.choice import Choice
    from batchgen.export.layouts import NAMES
    from batchgen.export.options import Options
    from batchgen.export.targets import target_named
    from batchgen.export.training import export_for_training
    from batchgen.export.writer import export as exported
    from batchgen.job import Cluster, Renderers
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store

    choice = Choice(where=where, selection=selection, dedupe=dedupe)
    options = Options(
        caption=caption, image_format=image_format, image_quality=image_quality, shard_size=shard_size,
        repeats=repeats, mix_buckets=mix_buckets, bare=bare,
    )  # fmt: skip
    with errors():
        if to not in NAMES and (said := [*options.said(), *choice.said(), *(["actors"] if actors else [])]):
            names = ", ".join(f"--{name}" for name in said if name != "selection")
            if names:
                raise Refused(f"{names}: for training only, and --to {to} is not. There are {', '.join(NAMES)}.")
        if check and to in NAMES:
            raise Refused(f"--check: asks what a benchmark's scorer would pass over, and {to} is of training.")
        if check:
            _check(out, dest, to, selection)
        run = Run.open(Store.open(out))
        if to in NAMES:
            cluster = Cluster(renderers=Renderers(min_size=1, max_size=actors or 1))
            lines = export_for_training(run, dest, to, choice, options, cluster, partial(say, console())).lines()
        else:
            chosen = selected([run], selection) if selection else None
            lines = exported(run, dest, target_named(to, run), chosen).lines()
        for line in lines:
            say(console(), line)


def _check(out: str, dest: str, to: str, selection: str | None) -> None:
    """Exit code 1 if there is a problem."""
    from batchgen.evaluate.benchmarks import benchmark_named
    from batchgen.evaluate.selection import selected
    from batchgen.export.checking import check_folder
    from batchgen.export.grouped import grouped
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store

    with errors():
        benchmark = benchmark_named(to)
        chosen = selected([Run.open(Store.open(out))], selection) if selection else None
        found = check_folder(out, dest, benchmark, chosen)
        for line in grouped(found.problems) if found.problems else [f"{dest}: {benchmark.title} reads all of it."]:
            say(console(), line)
        for note in found.notes:
            say(console(), f"note: {note}")
    raise typer.Exit(1 if found.problems else 0)
