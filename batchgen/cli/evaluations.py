"""Commands on what came of runs: score, compare, select, adopt."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchgen.cli.program import RunPath, app, console, errors, examples
from batchgen.words import say

if TYPE_CHECKING:
    from batchgen.evaluate.graph import Scored
    from batchgen.run.directory import Run

PANEL = "Evaluate"
SelectionName = Annotated[str | None, typer.Option("--selection", help="Only images of a selection of this name.")]


Files = Annotated[list[str] | None, typer.Argument(help="With --from: what a scorer wrote.", metavar="[FILE...]")]


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen score out/run --with clip,oracle",
        "batchgen score out/run --with vqascore=/models/qwen3-vl-8b --actors 4",
        "batchgen score out/run --with my_scorer.py:Sharpness",
        "batchgen score out/run --from geneval results.jsonl",
        "batchgen score out/run --from votes votes.jsonl",
    ),
)
def score(
    out: RunPath,
    files: Files = None,
    wanted: Annotated[
        str | None, typer.Option("--with", help="Scorers, with commas between them: score the pictures.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="A benchmark, csv, evalscope or votes: take the scores of a file.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the scores.")] = None,
    of: Annotated[str | None, typer.Option(help="With --from: the folder of the export that was scored.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures that a model sees at once.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, cpu, ...; without it a GPU if there is one.")] = None,
    actors: Annotated[int, typer.Option(min=1, help="How many score at the same time, on Ray.")] = 1,
) -> None:
    """Score the pictures of a run, or take in scores that were made elsewhere. Run it again to continue."""
    from batchgen.errors import Refused
    from batchgen.run.directory import Run
    from batchgen.storage.store import Store

    with errors():
        if (wanted is None) == (source is None) or bool(source) != bool(files):
            raise Refused("batchgen score: write either --with and scorers, or --from, its kind and the file.")
        runs = list(Run.all_at(out).values())
        if wanted is not None:
            useless = [one for run in runs for one in _score_with(run, wanted, name, batch_size, device, actors)]
            if useless:
                reasons = "; ".join(f"{one.about.scorer}: {one.why}" for one in useless)
                raise Refused(
                    f"Could score no picture at all: {reasons}. Delete its folder in {out}/scores to try again."
                )
            _renew_cards(runs)
            say(console(), f"Then: batchgen compare {out}")
            return
        run = Run.open(Store.open(out))
        if source == "votes":
            _score_votes(run, [Path(file) for file in files or []], name)
        else:
            _score_from(run, source or "", files or [], name, of)
        _renew_cards([run])


def _renew_cards(runs: Iterable[Run]) -> None:
    """Let dataset cards say whether and how pictures were scored for what is not safe for work."""
    from batchgen.finalize.proof import renew_card

    for run in runs:
        renewed = renew_card(run)
        if renewed:
            say(console(), f"{run.store}/README.md says now how they were scored for what is not safe for work.")
        elif renewed is False:
            say(
                console(),
                f"note: {run.store}/README.md was edited, so it stays as it is. Say there how they were scored.",
            )


def _score_with(
    run: Run, wanted: str, name: str | None, batch_size: int | None, device: str | None, actors: int
) -> Iterator[Scored]:
    """Those that could score no picture."""
    from batchgen.evaluate import graph
    from batchgen.job import Cluster, Renderers

    cluster = Cluster(renderers=Renderers(min_size=1, max_size=actors))
    names = [one.strip() for one in wanted.split(",") if one.strip()]
    size = batch_size or graph.BATCH_SIZE
    for scored in graph.score(run, names, batch_size=size, device=device, name=name, cluster=cluster):
        say(console(), f"{run.store}: {scored.line()}")
        if scored.is_useless:
            yield scored


def _score_from(run: Run, source: str, files: list[str], name: str | None, of: str | None) -> None:
    from batchgen.errors import Refused
    from batchgen.evaluate.official import score_from
    from batchgen.evaluate.scores import read_scores

    if len(files) > 1:
        raise Refused(f"--from {source}: takes one file or folder, and {len(files)} are named.")
    taken = score_from(run, source, files[0], name, of)
    say(console(), f"{', '.join(taken.scorers)}: {taken.scored} images have a score, {taken.unscored} have none.")
    for scorer, scores in read_scores(run.store, taken.scorers).items():
        if (there := int(scores.table["score"].notna().sum())) > taken.scored:
            say(console(), f"note: with what was taken in before, {there} images have a score of {scorer}.")
    for scorer, reasons in taken.reasons.items():
        for why, count in reasons.items():
            say(console(), f"note: {scorer}: {count} images have no score: {why}.")
    if taken.unknown:
        say(console(), f"note: {len(taken.unknown)} names are no image of this run, such as {taken.unknown[0]}.")
    say(console(), f"Then: batchgen compare {run.store}")


def _score_votes(run: Run, files: list[Path], name: str | None) -> None:
    from batchgen.evaluate import votes
    from batchgen.evaluate.scores import write_part
    from batchgen.look.results import Results

    read = votes.read_votes(files)
    about, rows = votes.scores_of(read, files, set(Results(run.store.url).to_pandas()["image_id"]), name or "votes")
    write_part(run.store, about, rows)
    say(console(), f"{about.scorer}: {len(read)} votes on {len(rows)} images of this run.")
    for rate in votes.win_rates(read):
        say(console(), rate.line())


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
    from batchgen.evaluate.selection import selected

    with errors():
        runs = labelled(outs)
        names = [name.strip() for name in scorers.split(",")] if scorers else None
        chosen = selected([run for _, run in runs], selection) if selection else None
        found = compared(runs, names, baseline, all_pairs, chosen)
        if form is not Format.html:
            print({"json": to_json, "latex": tables.latex, "markdown": tables.markdown}[form](found))
            return
        path = page.write(found, runs, out, shlex.join(["batchgen", *sys.argv[1:]]))
        report.print_tables(console(), tables.tables(found))
        for line in found.left_out:
            say(console(), f"note: {line}")
        say(console(), f"To look at it: {path}")


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        'batchgen select out/run "score_clip > 26 and suspect is null" --dedupe phash:4 --name v1',
        "batchgen select out/run \"cell = 'guidance_scale=4.5'\" --name good",
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


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "batchgen adopt images/of/flux out/flux --layout geneval --name flux --manifest geneval.parquet",
    ),
)
def adopt(
    folder: Annotated[str, typer.Argument(help="Images that were made elsewhere.", metavar="DIR")],
    out: RunPath,
    layout: Annotated[str, typer.Option(help="The benchmark whose scorer reads the folder.")],
    name: Annotated[str, typer.Option(help="What the model is called.")],
    manifest: Annotated[str, typer.Option(help="The benchmark's table, of batchgen import.")],
    known: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What is known of them: --set num_inference_steps=28"),
    ] = None,
) -> None:
    """Bring images that were made elsewhere in as a run, to be scored and compared. Run it again to continue."""
    import yaml

    from batchgen.errors import Refused
    from batchgen.evaluate.adopt import adopt as adopted

    with errors():
        pairs = [text.partition("=") for text in known or []]
        if bad := [key for key, equals, _ in pairs if not equals]:
            raise Refused(f"--set {bad[0]}: write KEY=VALUE.")
        found = adopted(folder, layout, name, out, manifest, {key: yaml.safe_load(value) for key, _, value in pairs})
        for line in found.lines(name):
            say(console(), line)
        say(console(), f"Then: batchgen score {found.run.store} --with ..., and batchgen compare")
