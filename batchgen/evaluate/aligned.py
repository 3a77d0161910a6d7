"""Runs side by side: the images that show the same prompt from the same seed, one of each cell.

Rows of several runs belong together by prompt text and seed, and by benchmark_id where all runs have it. What has no
partner in every cell is counted, and is not compared. Knows rows, and no scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from batchgen.errors import Refused
from batchgen.evaluate.asked import OWN, asked_of_all
from batchgen.evaluate.weighing import Ints
from batchgen.finalize.card import model_name
from batchgen.finalize.metadata import metadata
from batchgen.run.directory import Run

ONE_CELL = "default"  # the name of the cell of a run without a sweep
NO_CATEGORY = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One column of a comparison. name: for people, unique. run: the label of its run, number: its place among runs.

    cell: its name in that run. swept: what its run varies. settings: all of its job's sampling, with that. seconds: of
    the device for an image, on average. planned, failed: images. unpartnered: planned images that not all cells have;
    repeated: with prompt and seed of another one.
    """

    name: str
    run: str
    number: int
    cell: str
    swept: Mapping[str, Any]
    settings: Mapping[str, Any]
    model: str
    model_digest: str
    fingerprint: str
    versions: Mapping[str, Any]
    seconds: float | None
    planned: int = 0
    failed: int = 0
    unpartnered: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """prompts: one row each: prompt, category, benchmark, benchmark_id, and others of a benchmark, null where unknown.

    prompt, seed: of each image, numbers of rows of `prompts` and of distinct seeds. ids: image_ids, (images, cells),
    None where a cell has none. partnered: whether all cells have the image. by: what images are aligned by. skipped:
    label of a run → rows of its table that it skipped.
    """

    cells: tuple[Cell, ...]
    prompts: pd.DataFrame
    prompt: Ints
    seed: Ints
    ids: npt.NDArray[Any]
    partnered: npt.NDArray[np.bool_]
    by: str
    benchmark: str | None
    skipped: Mapping[str, int]


BENCHMARK = ("benchmark", "benchmark_id", "category", "benchmark_sha256", "benchmark_licence")


def align(runs: Sequence[tuple[str, Run]], selection: set[str] | None = None) -> Aligned:
    """selection: image_ids; of others nothing is compared. Raises Refused where nothing belongs together."""
    rows, cells, skipped = _all_rows(runs)
    known = rows["benchmark_id"].notna().groupby(rows["run"]).all().all()
    rows["key"] = rows["prompt"] + ("\0" + rows["benchmark"].fillna("") + "\0" + rows["benchmark_id"] if known else "")
    without = rows["seed"].isna().groupby(rows["run"]).all()
    by = "prompt and sample_index" if without.any() else "prompt and seed"
    rows["number"] = rows["sample_index" if without.any() else "seed"]
    rows = rows[rows["number"].notna()]
    repeated = rows.duplicated(["column", "key", "number"])
    first = rows[~repeated]
    place, keys = _places(first)
    ids = np.full((len(keys), len(cells)), None, object)
    ids[place, first["column"]] = first["image_id"]
    partnered = np.array([all(_counts(one, selection) for one in line) for line in ids], bool)
    prompts = first.drop_duplicates("key").sort_values("order")
    numbers = pd.Series(np.arange(len(prompts)), prompts["key"])
    seed = np.unique(keys["number"].to_numpy(), return_inverse=True)[1] if by.endswith("seed") else np.arange(len(keys))
    if not partnered.any():
        raise Refused(_nothing_common(runs, cells, rows, selection))
    lonely = (ids != None)[~partnered].sum(axis=0)  # noqa: E711
    benchmarks = set(prompts["benchmark"].fillna("").unique())
    return Aligned(
        cells=tuple(_counted(cell, at, rows, repeated, lonely) for at, cell in enumerate(cells)),
        prompts=prompts[["prompt", *BENCHMARK]].reset_index(drop=True),
        prompt=numbers[keys["key"]].to_numpy(np.int64),
        seed=seed.astype(np.int64),
        ids=ids,
        partnered=partnered,
        by=by,
        benchmark=(benchmarks.pop() or None) if len(benchmarks) == 1 else None,
        skipped=skipped,
    )


def _counts(image_id: str | None, selection: set[str] | None) -> bool:
    return image_id is not None and (selection is None or image_id in selection)


def _places(rows: pd.DataFrame) -> tuple[Ints, pd.DataFrame]:
    """Of each row the number of its (key, number), and these, in the order of the first cell that has them."""
    groups: Ints = rows.groupby(["key", "number"], sort=False).ngroup().to_numpy().astype(np.int64)
    return groups, rows.drop_duplicates(["key", "number"])


def _counted(cell: Cell, at: int, rows: pd.DataFrame, repeated: pd.Series, lonely: npt.NDArray[Any]) -> Cell:
    own = rows["column"] == at
    return replace(
        cell,
        planned=int(own.sum()),
        failed=int((rows["status"][own] == "failed").sum()),
        unpartnered=int(lonely[at]),
        repeated=int(repeated[own].sum()),
    )


def _all_rows(runs: Sequence[tuple[str, Run]]) -> tuple[pd.DataFrame, list[Cell], dict[str, int]]:
    """Planned rows of all runs, with the number of their run and of their column; the columns; how many were skipped.

    A row of the table that was skipped has no cell and no seed.
    """
    frames, cells, skipped = [], list[Cell](), dict[str, int]()
    for number, (label, run) in enumerate(runs):
        rows = planned_rows(run)
        skipped[label] = int(rows["skipped"].sum())
        rows = rows[~rows["skipped"] & rows["prompt"].notna()]
        names = [name for name in run.cells if name in set(rows["cell"])]
        names += [name for name in rows["cell"].unique() if name not in names]
        places = pd.Series(np.arange(len(names)) + len(cells), names)
        frames.append(rows.assign(run=number, column=places[rows["cell"]].to_numpy()))
        several = len(runs) > 1
        cells += [_cell(run, rows, label, number, name, several=several, swept=len(names) > 1) for name in names]
    rows = pd.concat(frames, ignore_index=True).sort_values(["column", "order"], kind="stable", ignore_index=True)
    return rows, cells, skipped


def _cell(run: Run, rows: pd.DataFrame, label: str, number: int, name: str, *, several: bool, swept: bool) -> Cell:
    plan = next((plan for plan in reversed(run.plans) if name in plan.job.sweep.by_cell()), run.plans[-1])
    values = plan.job.sweep.by_cell().get(name, {})
    own = rows[rows["cell"] == name]
    versions, seconds = own["versions"].dropna(), own["render_seconds"].mean()
    full = f"{label}: {name}" if several else name
    return Cell(
        name=full if swept else label,
        run=label,
        number=number,
        cell=name,
        swept=values,
        settings={key: value for key, value in plan.stored["sampling"].items() if value is not None} | dict(values),
        model=model_name(plan),
        model_digest=plan.model.digest,
        fingerprint=plan.fingerprint,
        versions=json.loads(versions.iloc[0]) if len(versions) else {},
        seconds=None if pd.isna(seconds) else float(seconds),
    )


COLUMNS = [
    *("image_id", "cell", "status", "prompt", "seed", "sample_index"),
    *("versions", "render_seconds", "shard", "source_row", *BENCHMARK),
]


def planned_rows(run: Run) -> pd.DataFrame:
    """Every planned row, whether it is rendered or not, with COLUMNS, `skipped`, and `order`.

    order: its place in the user's table. status: ok, failed, or missing where its shard is not there yet. prompt: the
    table's own, where the job varies it.
    """
    tables = list[pa.Table](_planned(run))
    table = pa.concat_tables(tables, promote_options="permissive")
    rows: pd.DataFrame = table.to_pandas()
    rows["seed"] = table["seed"].cast(pa.string()).to_pandas()  # beside a null pandas would round large ones
    rows["prompt"] = asked_of_all(rows)
    rows = rows.reindex(columns=COLUMNS)
    for name in BENCHMARK:
        rows[name] = rows[name].astype(object).where(rows[name].notna(), None)
    rows["skipped"] = rows["shard"].isna()
    rows["category"] = rows["category"].fillna(NO_CATEGORY).astype(str)
    number = pd.to_numeric(rows["source_row"], errors="coerce").fillna(0)
    rows["order"] = np.lexsort((np.arange(len(rows)), number)).argsort()
    return rows


def _planned(run: Run) -> Iterator[pa.Table]:
    committed = run.committed()
    wanted = [*COLUMNS, OWN]
    for table in metadata(run, committed):
        yield table.select([name for name in wanted if name in table.column_names])
    for plan in run.plans:
        for shard in run.shards(plan):
            if shard.number not in committed:
                table = run.rows(plan, shard)
                table = table.select([name for name in wanted if name in table.column_names])
                yield table.append_column("status", pa.array(["missing"] * len(table)))


def _nothing_common(
    runs: Sequence[tuple[str, Run]], cells: Sequence[Cell], rows: pd.DataFrame, selection: set[str] | None
) -> str:
    of = ", ".join(str(run.store) for _, run in runs)
    if selection is not None and not rows["image_id"].isin(selection).any():
        return f"{of}: no image of the selection is there. Make it from these runs: batchgen select."
    prompts = rows.groupby("column")["key"].agg(set)
    common = len(set.intersection(*prompts)) if len(prompts) == len(cells) else 0
    why = f"{common} prompts are in all, but none with the same seed" if common else "they have no prompt in common"
    return (
        f"{of}: cannot be paired, as no prompt and seed is in all of them ({why}). Render them from the same table "
        "with the same sampling.seed, or compare each on its own."
    )
