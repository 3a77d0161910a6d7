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
import pyarrow.parquet as pq

from batchgen.errors import Infrastructure
from batchgen.finalize import card
from batchgen.finalize.metadata import Totals, metadata
from batchgen.run import plans
from batchgen.run.directory import Run
from batchgen.run.layout import CARD, METADATA, SUCCESS
from batchgen.run.plans import PlanFile

ROWS_PER_PART = 50_000


def finalize(found: Run) -> Totals:
    """Write metadata/, README.md and, last, _SUCCESS. Raises Infrastructure where a shard is missing or damaged."""
    missing = sum(plan.shards for plan in found.plans) - len(found.committed())
    if missing > 0:
        raise Infrastructure(f"{found.store}: {missing} shards are missing. Run the same command again to render them.")
    totals, parts, waiting = Totals(), list[PlanFile](), list[pa.Table]()
    for table in metadata(found):
        totals.add(table)
        waiting.append(table)
        while sum(map(len, waiting)) >= ROWS_PER_PART:
            joined = pa.concat_tables(waiting)
            parts.append(_write_part(found, len(parts), joined.slice(0, ROWS_PER_PART)))
            waiting = [joined.slice(ROWS_PER_PART)]
    if waiting and (sum(map(len, waiting)) or not parts):
        parts.append(_write_part(found, len(parts), pa.concat_tables(waiting)))
    if totals.planned != found.planned:
        raise Infrastructure(
            f"{found.planned} images were planned, {totals.planned} are accounted for. Run batchgen doctor."
        )
    found.store.replace(CARD, card.dataset_card(found, totals).encode())
    summary = vars(totals) | {
        "planned": found.planned,
        "plans": [plan.plan for plan in found.plans],
        "metadata": [asdict(part) for part in parts],
    }
    found.store.replace(SUCCESS, json.dumps(summary, indent=1, sort_keys=True).encode())
    return totals


def finished(found: Run) -> Totals | None:
    """What an earlier finalize proved of exactly these plans; None where it has to be done, or done again."""
    summary = success(found)
    if summary is None or summary["plans"] != [plan.plan for plan in found.plans]:
        return None
    there = {entry.path for entry in found.store.list(METADATA)}
    if not {part["path"] for part in summary["metadata"]} <= there or not found.store.exists(CARD):
        return None
    values = {name: summary[name] for name in Totals.__dataclass_fields__}
    return Totals(**{**values, "codes": Counter(values["codes"])})


def success(found: Run) -> dict[str, Any] | None:
    """What _SUCCESS says; None where it is missing or not ours."""
    try:
        summary: dict[str, Any] = json.loads(found.store.read(SUCCESS))
        return summary if {"plans", "metadata", *Totals.__dataclass_fields__} <= summary.keys() else None
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _write_part(found: Run, part: int, table: pa.Table) -> PlanFile:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    path, data = f"{METADATA}/part-{part:05}.parquet", bytes(sink.getvalue())
    found.store.replace(path, data)
    return PlanFile(path, plans.digest(data), len(table))
