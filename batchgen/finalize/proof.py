"""Proves that planned = committed + failed, then writes the metadata table, the card and _SUCCESS.

A pure function of the shards: any driver may run it, twice, at the same time as another. Reads all columns but the
pictures. Knows the run directory and neither Ray nor GPUs.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from batchgen.errors import Infrastructure
from batchgen.finalize.card import dataset_card
from batchgen.finalize.metadata import Totals, metadata
from batchgen.run.directory import Run
from batchgen.run.layout import CARD, METADATA, SUCCESS
from batchgen.run.plans import PlanFile, digest, to_parquet

ROWS_PER_PART = 50_000


def finalize(run: Run) -> Totals:
    """Write metadata/, README.md and, last, _SUCCESS. Raises Infrastructure where a shard is missing or damaged."""
    missing = sum(plan.shards for plan in run.plans) - len(run.committed())
    if missing > 0:
        raise Infrastructure(f"{run.store}: {missing} shards are missing. Run the same command again to render them.")
    totals, parts, waiting = Totals(), list[PlanFile](), list[pa.Table]()
    for table in metadata(run):
        totals.add(table)
        waiting.append(table)
        while sum(map(len, waiting)) >= ROWS_PER_PART:
            joined = pa.concat_tables(waiting)
            parts.append(_write_part(run, len(parts), joined.slice(0, ROWS_PER_PART)))
            waiting = [joined.slice(ROWS_PER_PART)]
    if waiting and (sum(map(len, waiting)) or not parts):
        parts.append(_write_part(run, len(parts), pa.concat_tables(waiting)))
    if totals.planned != run.planned:
        raise Infrastructure(
            f"{run.planned} images were planned, {totals.planned} are accounted for. Run batchgen doctor."
        )
    run.store.replace(CARD, dataset_card(run, totals).encode())
    summary = vars(totals) | {
        "planned": run.planned,
        "plans": [plan.plan for plan in run.plans],
        "metadata": [asdict(part) for part in parts],
    }
    run.store.replace(SUCCESS, json.dumps(summary, indent=1, sort_keys=True).encode())
    return totals


def proven(run: Run) -> Totals | None:
    """What an earlier finalize proved of exactly these plans; None where it has to be done, or done again."""
    summary = success(run)
    if summary is None or summary["plans"] != [plan.plan for plan in run.plans]:
        return None
    there = {entry.path for entry in run.store.list(METADATA)}
    if not {part["path"] for part in summary["metadata"]} <= there or not run.store.exists(CARD):
        return None
    values = {name: summary[name] for name in Totals.__dataclass_fields__}
    return Totals(**{**values, "codes": Counter(values["codes"])})


def success(run: Run) -> dict[str, Any] | None:
    """What _SUCCESS says; None where it is missing or not ours."""
    try:
        summary: dict[str, Any] = json.loads(run.store.read(SUCCESS))
        return summary if {"plans", "metadata", *Totals.__dataclass_fields__} <= summary.keys() else None
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _write_part(run: Run, part: int, table: pa.Table) -> PlanFile:
    path, data = f"{METADATA}/part-{part:05}.parquet", to_parquet(table)
    run.store.replace(path, data)
    return PlanFile(path, digest(data), len(table))
