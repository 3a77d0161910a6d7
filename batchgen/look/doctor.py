"""Proves a run: every planned row once, every byte as it was written, nothing foreign, and samples render again.

Reads everything, changes nothing. Reports all that is wrong, each with its file and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from batchgen.errors import Infrastructure
from batchgen.look.alike import Alike, alike_of
from batchgen.look.books import book_problems, card_notes
from batchgen.look.planned import plan_problems
from batchgen.look.stored import AWAY, examine_shard
from batchgen.plan.occurrences import Occurrences
from batchgen.run import ledger
from batchgen.run.directory import Run, read_shards
from batchgen.run.layout import DATA, SUCCESS, shard_number

READERS = 4  # each holds one shard, at most 256 MB


@dataclass
class Report:
    """What the doctor saw. The run is proven if `problems` is empty. notes: what is worth knowing and no fault.

    alike: near-identical and flat pictures of each cell; empty where there are problems.
    """

    planned: int = 0
    images: int = 0
    failed: int = 0
    rerendered: int = 0
    finalized: bool = True
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    alike: list[Alike] = field(default_factory=list)


def examine(run: Run) -> Report:
    """Compare every data file with its plan, down to the pixels, then the books with the data files."""
    report = Report(finalized=run.store.exists(SUCCESS))
    seen = Occurrences()
    expected: set[int] = set()
    complete = True
    for plan in run.plans:
        report.problems += plan_problems(run, plan)
        try:
            shards = run.shards(plan)
        except Infrastructure:  # already among the problems
            complete = False
            continue
        expected |= {shard.number for shard in shards}
        for found in read_shards(shards, partial(examine_shard, run, plan), READERS):
            twice = [image_id for image_id, n in zip(found.ids, seen.count(found.ids), strict=True) if n > 1]
            report.problems += [f"image {image_id} is committed more than once" for image_id in twice]
            report.images += len(found.ids)
            report.failed += found.failed
            report.problems += found.problems
        report.failed += plan.skipped_images
    report.planned = run.planned
    report.failed -= run.replacements  # rows that failed once and were planned again later
    if complete:
        report.problems += _strangers(run, expected)
    report.problems += book_problems(run, rows=not report.problems)
    report.notes += card_notes(run)
    report.notes += (f"{path}: is damaged, and the data files are read instead" for path in ledger.damaged(run.store))
    if not report.problems and report.planned != report.images + report.failed:
        report.problems.append(f"{report.planned} rows planned, {report.images + report.failed} accounted for")
    if not report.problems:
        report.alike = alike_of(run)
    return report


def _strangers(run: Run, expected: set[int]) -> Iterator[str]:
    """Files that a reader of data/ would see and that belong to no plan."""
    for entry in run.store.list(DATA):
        if shard_number(entry.path) not in expected:
            yield f"{entry.path}: belongs to no plan, and readers of data/ would see it. {AWAY}"
