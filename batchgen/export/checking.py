"""Applies a scorer's own acceptance rule to a folder, batchgen's or anybody's, and names what it would pass over.

Knows no benchmark's rule: those stand in the benchmark's own file, apart from where it places images.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Benchmark, Prompt
from batchgen.evaluate.exported import read_records
from batchgen.evaluate.importing import read_manifest
from batchgen.export.benchmark_folder import prompt_of
from batchgen.look.results import Results
from batchgen.run.directory import Run
from batchgen.storage.store import Store


def check(folder: str, benchmark: Benchmark, prompts: Sequence[Prompt]) -> list[str]:
    """What is wrong with a folder that a benchmark's scorer is pointed at. prompts: those that should be there."""
    store = Store.open(folder)
    if not store.list():
        raise Refused(f"{store}: no such folder, or it is empty.")
    return list(benchmark.check(store, prompts))


def check_export(run: Run, folder: str, benchmark: Benchmark) -> list[str]:
    """The same for all cells of a run that was exported to this folder; for a whole folder where it was not."""
    dest = str(Store.open(folder))
    prompts = prompts_of(run, benchmark)
    roots = {root for record in read_records(run.store, benchmark.name) if record.dest == dest for root in record.roots}
    found = []
    if benchmark.size not in (None, len(prompts)):
        there = f"{len(prompts)} of the {benchmark.size} prompts of {benchmark.title}"
        found.append(f"the run has {there}: what a scorer sums up over them is not the benchmark's total")
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


def prompts_of(run: Run, benchmark: Benchmark) -> list[Prompt]:
    """The benchmark's prompts in a run, each once, in the benchmark's order."""
    return prompts_in(Results(run.store.url).to_pandas(), benchmark)


def prompts_in(rows: pd.DataFrame, benchmark: Benchmark) -> list[Prompt]:
    """The benchmark's prompts in the rows of a manifest or of a run, each once."""
    if "benchmark" not in rows or "benchmark_id" not in rows:
        raise Refused(f"there is no column benchmark: make the manifest with batchgen import {benchmark.name}.")
    mine = rows[rows["benchmark"] == benchmark.name].drop_duplicates("benchmark_id").sort_values("benchmark_id")
    values = mine.assign(image_id=mine["benchmark_id"]).to_dict("records")
    return [prompt_of(benchmark, {str(name): value for name, value in row.items()}) for row in values]
