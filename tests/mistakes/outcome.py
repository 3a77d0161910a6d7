"""What becomes of a job before a GPU is used: what `batchgen plan` does, in this process, with rows one can look at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import Problem, Refused
from batchgen.job.file import job_from
from batchgen.plan.graph import PIECE, expanded, read_and_expand, survey, unpacked
from batchgen.plan.preflight import Prepared, prepare
from batchgen.plan.sharding import Summary
from batchgen.schema import expanded_schema


@dataclass
class Outcome:
    """refusal: why nothing happens. Otherwise images: accepted image rows; skipped: rows that will not be rendered."""

    refusal: Refused | None = None
    prepared: Prepared | None = None
    summary: Summary | None = None
    images: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        return list(self.refusal.problems) if self.refusal else []

    @property
    def notices(self) -> list[str]:
        return [*self.prepared.notices] if self.prepared else []


def look(values: dict[str, Any], between: Callable[[], object] = lambda: None) -> Outcome:
    """between: happens after the manifest was looked through and before its rows are read."""
    try:
        prepared = prepare(job_from(values))
        between()
        summary = survey(prepared)
    except Refused as refusal:
        return Outcome(refusal)
    tables = [table for _, table in expanded(prepared)]
    for table in tables:
        table.validate(full=True)
        assert table.schema == expanded_schema(prepared.expansion.passed)
    rows = [row for table in tables for row in table.to_pylist()]
    images = [row for row in rows if row["skip_code"] is None]
    skipped = [row for row in rows if row["skip_code"] is not None]
    assert (summary.images, summary.skipped_images) == (len(images), len(skipped))
    assert summary.codes == Counter(row["skip_code"] for row in skipped)
    return Outcome(None, prepared, summary, images, skipped)


def one_by_one(prepared: Prepared, tokenizers: str) -> Iterator[tuple[int, pa.Table]]:
    """plan.graph.expanded_on_ray without Ray: the same function of a piece, in the same order."""
    settings = {"pieces": prepared.sources.items, "expansion": prepared.expansion, "tokenizers": tokenizers}
    for number in range(len(prepared.sources.items)):
        for table in read_and_expand(pa.table({PIECE: [number]}), **settings):
            yield from unpacked(table)


def write(path: Path, content: Any, **options: Any) -> Path:
    """Rows (objects or lines) as JSONL, a table as Parquet, text and bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        lines = (row if isinstance(row, str | bytes) else json.dumps(row) for row in content)
        path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    elif isinstance(content, str | bytes):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), path, **options)
    return path
