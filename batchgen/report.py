"""Prints what the commands have to say. Knows consoles and numbers; reads no files and decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from batchgen.finalize.contents import OVERFLOW
from batchgen.job import Job
from batchgen.job.steps import refine_steps
from batchgen.look import alike, show
from batchgen.look.doctor import Report
from batchgen.look.status import Status
from batchgen.plan.preflight import Prepared
from batchgen.plan.sharding import Summary
from batchgen.run.directory import Run
from batchgen.session import Finished
from batchgen.weights.licence import known_licence
from batchgen.words import duration, say, visible

if TYPE_CHECKING:
    from batchgen.evaluate import tables  # brings scipy along

IDLE = {
    "idle_skip_layers": "ask for skip-layer guidance, which does nothing where guidance_scale is not above 1",
    "idle_negative": "have a negative prompt that nothing reads (guidance_scale at most 1, or negative_prompt_stop 0)",
}
ENCODERS = {"clip_l": "CLIP-L", "clip_g": "CLIP-G", "t5": "T5"}
SHOWN_BUCKETS = 64
SHOWN_CUT = 90  # characters of a cut text


def print_name(console: Console, name: str) -> None:
    """Before what is said of one of several models."""
    if name:
        say(console, f"model {name}:")


def print_plan(console: Console, prepared: Prepared, summary: Summary, cost: Iterable[str]) -> None:
    """All that is known before the run uses a GPU. cost: lines of cost.estimate."""
    say(console, f"{summary.images} images of {summary.prompts} prompts, model {prepared.model.path}")
    say(console, f"licence of the model: {known_licence(prepared.model, prepared.job.model.preset).line}")
    weights = {str(getattr(prepared.job.model, name)): sha for name, sha in prepared.model.files.items()}
    weights |= {adapter.path: adapter.sha256 for adapter in prepared.model.adapters.values()}
    for path, sha256 in weights.items():
        say(console, f"  {path.rpartition('/')[2]}: sha256 {sha256} (AutoV2 {sha256[:10].upper()})")
    if refine := prepared.job.refine:
        steps = refine_steps(refine)
        model = f" with {prepared.model.refiner.path}" if prepared.model.refiner else ""
        say(console, f"a second pass{model}: sides × {refine.scale:g}, {steps} of {refine.num_inference_steps} steps")
    for notice in [*prepared.notes, *prepared.notices]:
        say(console, f"note: {notice}")
    table = Table("bucket", "images", "batch", "shards", "TFLOP", box=None, pad_edge=False)
    largest = sorted(summary.buckets, key=lambda name: summary.buckets[name].images, reverse=True)[:SHOWN_BUCKETS]
    for name in sorted(largest):
        bucket = summary.buckets[name]
        table.add_row(
            Text(visible(name)), str(bucket.images), str(bucket.batch_size), str(bucket.shards), f"{bucket.tflop:.3g}"
        )
    console.print(table)
    if (more := len(summary.buckets) - len(largest)) > 0:
        say(console, f"and {more} smaller buckets. No two share a batch, and many small ones waste time on padding:")
        say(console, "  write fewer sizes (aspect_ratio helps), step counts and max_sequence_lengths.")
    for name, text in IDLE.items():
        if summary.idle[name]:
            say(console, f"{summary.idle[name]} images {text}")
    if summary.same_noise:
        say(console, f"{summary.same_noise} seeds differ from others by multiples of 2^32, which torch does not see:")
        say(console, "  they draw the same noise.")
    if len(summary.cells) > 1:
        say(console, "cells: " + ", ".join(_by_cell(prepared.job, summary)))
    for name, text in OVERFLOW.items():
        if summary.overflow[name]:
            say(console, f"{summary.overflow[name]} images {text}")
    for prompt, encoder, cut in summary.truncated:
        say(console, f"  {ENCODERS[encoder]} does not read {_short(cut)!r} of {_short(prompt)!r}")
    if summary.snapped:
        say(console, f"{summary.snapped} images have a size that is no multiple of 16; the nearest one is taken")
    if summary.beyond_training:
        preset, trained = prepared.job.model.preset, prepared.expansion.limits.trained
        say(console, f"{summary.beyond_training} images have a size that {preset} was not trained for ({trained}):")
        say(console, "  look at a preview, unless this checkpoint was.")
    if summary.skipped_images:
        codes = ", ".join(f"{code}: {count}" for code, count in summary.codes.items())
        say(console, f"{summary.skipped_images} rows will be skipped ({codes})")
    for line in cost:
        say(console, line)
    state = "continues the run in" if prepared.run is not None else "would go to"
    untried = "" if prepared.run is not None or prepared.store.is_local else ", where nothing was written yet to try it"
    say(console, f"{state} {prepared.store}{untried}")


def _by_cell(job: Job, summary: Summary) -> Iterator[str]:
    """How many images each cell has, in the job's order; bad rows are in none."""
    for cell in dict.fromkeys([*job.sweep.by_cell(), *summary.cells]):
        if summary.cells[cell]:
            yield f"{cell}: {summary.cells[cell]}"


def print_finished(console: Console, finished: Finished) -> None:
    """Where the dataset lies and how to load it. The last line counts."""
    totals, out = finished.totals, finished.run.store
    if not finished.rendered:
        say(console, "Everything is rendered already; nothing was done.")
    say(console, f"The dataset lies in {out}. To load it:")
    if totals.images and out.is_local:
        say(console, f"  datasets.load_dataset({str(out)!r}, split='train')")
    elif totals.images:  # load_dataset looks for the card of a run on disk only
        say(console, f"  datasets.load_dataset('parquet', data_files={f'{out}/data/*.parquet'!r}, split='train')")
    say(console, f"  pandas.read_parquet({f'{out}/metadata'!r})")
    if totals.suspect or totals.split:
        say(console, f"{totals.suspect} suspect, {totals.split} in smaller batches than planned")
    say(console, f"{totals.planned} planned = {totals.images} images + {totals.failed} failed")


def print_truncated(console: Console, cuts: Mapping[tuple[str, str], list[str]]) -> None:
    """Each prompt that an encoder cut, once, with the end of it that was not read."""
    for (prompt, cut), encoders in cuts.items():
        names = " and ".join(ENCODERS[encoder] for encoder in encoders)
        say(console, f"truncated: {names} did not read {_short(cut)!r} of {_short(prompt)!r}")


def print_image(console: Console, run: Run, row: dict[str, Any]) -> None:
    """Every fact of one image, then how to make it again where batchgen made it."""
    for name, value in show.facts(row):
        say(console, f"{name}: {value}")
    if row["status"] != "ok" or run.is_adopted:
        return
    say(console, "")
    say(console, f"To render it again and compare: batchgen show {run.store} {row['image_id']} --rerender")
    for line in ["", *show.snippet(row).rstrip().split("\n")]:
        say(console, line)


def print_status(console: Console, status: Status) -> None:
    speed = f", {status.images_per_s:.2f} images/s" if status.images_per_s else ""
    left = f", {duration(status.seconds_left)} left" if status.seconds_left and status.missing else ""
    say(
        console,
        f"{status.images} done, {status.missing} missing, {status.failed} failed of {status.planned} images "
        f"({status.committed_shards} of {status.shards} shards){speed}{left}",
    )
    if status.compile_seconds is not None:
        say(console, f"a renderer compiled its kernels for up to {duration(status.compile_seconds)}")
    for line in alike.lines(status.alike or []):
        say(console, line)
    say(console, "complete" if status.complete else "not finished: run the render command again to continue")


def print_doctor(console: Console, report: Report) -> None:
    for note in report.notes:
        say(console, f"note: {note}")
    for problem in report.problems:
        say(console, f"- {problem}")
    for line in alike.lines(report.alike):
        say(console, line)
    again = f", {report.rerendered} rendered again" if report.rerendered else ""
    counts = f"{report.planned} planned = {report.images} images + {report.failed} failed{again}"
    finalized = "" if report.finalized else ", not finalized: run the render command again"
    verdict = f"{len(report.problems)} problems; {counts}" if report.problems else f"sound: {counts}, 0 duplicates"
    say(console, verdict + finalized)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CUT else text[: SHOWN_CUT - 3] + "..."


def print_tables(console: Console, tables: Iterable[tables.Table]) -> None:
    """Of a comparison; what stands out is bold."""
    for table in tables:
        columns = [Column(Text(visible(name)), overflow="fold") for name in table.header]
        shown = Table(*columns, title=Text(table.title), box=None)
        for number, row in enumerate(table.rows):
            shown.add_row(*(Text(visible(value)) for value in row), style="bold" if number in table.strong else None)
        console.print(shown)
        for note in table.notes:
            say(console, note)
        say(console, "")
