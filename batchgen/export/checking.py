"""Applies a scorer's own acceptance rule to a folder, batchgen's or anybody's, and names what it would pass over.

Knows no benchmark's rule: those stand in the benchmark's own file, apart from where it places images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Benchmark, Prompt
from batchgen.evaluate.exported import read_records
from batchgen.evaluate.importing import read_manifest
from batchgen.export.benchmark_folder import prompt_of
from batchgen.look.results import Results
from batchgen.run.directory import Run
from batchgen.storage.store import Store

MOST_TRIED = 50  # folders at one depth: each is listed


@dataclass(frozen=True, slots=True)
class Checked:
    """problems: what a scorer would pass over, or end at. notes: what is right, and good to know."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check(folder: str, benchmark: Benchmark, prompts: Sequence[Prompt]) -> list[str]:
    """What is wrong with a folder that a benchmark's scorer is pointed at. prompts: those that should be there."""
    store = Store.open(folder)
    if store.is_whole_system:
        raise Refused(f"{store}: is no folder of images. Name the one that the scorer of {benchmark.title} is given.")
    if not store.list():
        raise Refused(f"{store}: no such folder, or it is empty.")
    if next(benchmark.find(store, prompts), None) is None and (below := _below(store, benchmark, prompts)):
        return [
            f"{store}: no image is where the scorer of {benchmark.title} looks for it. Is the folder one further down? "
            f"There are images in {', '.join(below)}."
        ]
    return list(benchmark.check(store, prompts))


def _below(store: Store, benchmark: Benchmark, prompts: Sequence[Prompt]) -> list[str]:
    """Folders in this one, and in those, in which the scorer would find images."""
    paths = [PurePosixPath(entry.path).parts for entry in store.list()]
    found = list[str]()
    for depth in (1, 2):
        for folder in list(dict.fromkeys("/".join(parts[:depth]) for parts in paths if len(parts) > depth))[
            :MOST_TRIED
        ]:
            place = f"{store.url}/{folder}"
            if next(benchmark.find(Store.open(place), prompts), None) is not None:
                found.append(place)
        if found:
            break
    return found


def check_folder(place: str, folder: str, benchmark: Benchmark, chosen: set[str] | None = None) -> Checked:
    """The same for the prompts of a run or of a manifest, whichever lies at `place`; of a run that was exported to
    this folder, for all its cells. chosen: only the prompts that these images of a run show."""
    run = Run.find(Store.open(place))
    if run is None and chosen is not None:
        raise Refused(f"{place}: is no run, and a selection is one of a run's images. Leave out --selection.")
    prompts = prompts_of(run, benchmark, chosen) if run else prompts_from(place, benchmark)
    problems = check_export(run, folder, benchmark, chosen) if run else check(folder, benchmark, prompts)
    return Checked(tuple(problems), tuple(_subset(prompts, benchmark)))


def _subset(prompts: Sequence[Prompt], benchmark: Benchmark) -> Iterator[str]:
    """That some of a benchmark's prompts are asked for is no mistake, but their mean is not its total."""
    if benchmark.size is not None and len(prompts) < benchmark.size:
        yield (
            f"{len(prompts)} of the {benchmark.size} prompts of {benchmark.title} are asked for: what its scorer sums "
            "up over them is of this subset, and not the benchmark's total."
        )


def check_export(run: Run, folder: str, benchmark: Benchmark, chosen: set[str] | None = None) -> list[str]:
    """What is wrong in all cells of a run that was exported to this folder; in the whole folder where it was not."""
    dest = str(Store.open(folder))
    prompts = prompts_of(run, benchmark, chosen)
    roots = {root for record in read_records(run.store, benchmark.name) if record.dest == dest for root in record.roots}
    found = []
    for root in sorted(roots or {""}):
        problems = check(f"{folder}/{root}".rstrip("/"), benchmark, prompts)
        found += [f"{root}: {problem}" if root else problem for problem in problems]
    return found


def prompts_from(place: str, benchmark: Benchmark) -> list[Prompt]:
    """The benchmark's prompts in a run or a manifest, whichever lies there."""
    run = Run.find(Store.open(place))
    if run is not None:
        return prompts_of(run, benchmark)
    return prompts_in(read_manifest(place, benchmark.name).to_pandas(), benchmark)


def prompts_of(run: Run, benchmark: Benchmark, chosen: set[str] | None = None) -> list[Prompt]:
    """The benchmark's prompts in a run, each once, in the benchmark's order. chosen: only those of these images."""
    rows = Results(run.store.url).to_pandas()
    return prompts_in(rows if chosen is None else rows[rows["image_id"].isin(chosen)], benchmark)


def prompts_in(rows: pd.DataFrame, benchmark: Benchmark) -> list[Prompt]:
    """The benchmark's prompts in the rows of a manifest or of a run, each once."""
    if "benchmark" not in rows or "benchmark_id" not in rows:
        raise Refused(f"there is no column benchmark: make the manifest with batchgen import {benchmark.name}.")
    mine = rows[rows["benchmark"] == benchmark.name].drop_duplicates("benchmark_id").sort_values("benchmark_id")
    values = mine.assign(image_id=mine["benchmark_id"]).to_dict("records")
    return [prompt_of(benchmark, {str(name): value for name, value in row.items()}) for row in values]
