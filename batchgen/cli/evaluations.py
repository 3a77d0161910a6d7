"""Commands on what came of runs: compare, select."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from batchgen.cli.program import RunPath, app, console, errors, examples
from batchgen.words import say

PANEL = "Evaluate"
SelectionName = Annotated[str | None, typer.Option("--selection", help="Only images of a selection of this name.")]


class Format(StrEnum):
    html = "html"
    markdown = "markdown"
    latex = "latex"
    json = "json"


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen compare out/run --baseline guidance_scale=1.0",
        "batchgen compare out/medium out/large --out comparison.html",
        "batchgen compare out/run --format latex > table.tex",
    ),
)
def compare(
    outs: Annotated[list[str], typer.Argument(help="Run directories: local paths or URLs.", metavar="OUT...")],
    scorers: Annotated[
        str | None, typer.Option(help="By which scores, with commas between them; without it by all.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The cell that others are held against; else the first.")] = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Hold each cell against each.")] = False,
    selection: SelectionName = None,
    form: Annotated[Format, typer.Option("--format", help="What to make.")] = Format.html,
    out: Annotated[Path, typer.Option(help="The page to write, of --format html.")] = Path("comparison.html"),
) -> None:
    """Compare cells of a sweep, or runs: which is better, by how much, and how sure that is."""
    from batchgen import report
    from batchgen.evaluate import page, tables
    from batchgen.evaluate.comparison import compare as compared
    from batchgen.evaluate.document import to_json
    from batchgen.evaluate.labels import labelled
    from batchgen.evaluate.scores import by_image
    from batchgen.evaluate.selection import selected

    with errors():
        runs = labelled(outs)
        names = [name.strip() for name in scorers.split(",")] if scorers else None
        chosen = selected([run for _, run in runs], selection) if selection else None
        found = compared(runs, names, baseline, all_pairs, chosen)
        if form is not Format.html:
            print({"json": to_json, "latex": tables.latex, "markdown": tables.markdown}[form](found))
            return
        by = [ranking.about.scorer for ranking in found.rankings]
        scores = {at: by_image(run.store, by) for at, (_, run) in enumerate(runs)}
        path = page.write(found, runs, scores, out, shlex.join(["batchgen", *sys.argv[1:]]))
        report.print_tables(console(), tables.tables(found))
        for line in found.left_out:
            say(console(), f"note: {line}")
        say(console(), f"To look at it: {path}")


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        'batchgen select out/run "score_clip > 26 and suspect is null" --dedupe phash:4 --name v1',
        "batchgen compare out/run --selection v1",
    ),
)
def select(
    out: RunPath,
    where: Annotated[str, typer.Argument(help="An expression of SQL over metadata and scores.", metavar="EXPRESSION")],
    name: Annotated[str, typer.Option(help="What to call the selection.")],
    dedupe: Annotated[
        str | None, typer.Option(metavar="phash:BITS", help="Of pictures that differ in at most so many bits keep one.")
    ] = None,
) -> None:
    """Choose images by an expression, and keep the choice by name. Deletes nothing."""
    from batchgen.evaluate.selection import bits_of
    from batchgen.evaluate.selection import select as selected
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store

    with errors():
        found = selected(Run.open(Store.open(out)), where, name, bits_of(dedupe))
        alike = f", {found.chosen - found.images} are like another one" if dedupe else ""
        say(console(), f"{found.name}: {found.images} images of {found.planned}, {found.chosen} are chosen{alike}.")
