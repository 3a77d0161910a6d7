"""Fixtures that write a manifest and expand it to image rows, without a plan and without Ray."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen import schema
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.manifest.sources import Sources, find_sources
from batchgen.rows.expansion import Expansion
from tests.specs import files_of

if TYPE_CHECKING:
    from batchgen.rows.tokens import TokenCounter

DIGEST = "digest-of-the-model"


@dataclass(frozen=True)
class Manifest:
    """A file that was written, looked through and is ready to be expanded."""

    path: Path
    sources: Sources
    expansion: Expansion
    counter: TokenCounter

    def parts(self) -> Iterator[pa.Table]:
        """Image rows as they come, each table checked for its schema."""
        from batchgen.rows.expand import expand_in_parts

        for source in self.sources.items:
            for part in expand_in_parts(source, self.expansion, self.counter):
                part.validate(full=True)
                assert part.schema == schema.expanded_schema(self.expansion.passed)
                yield part

    def table(self) -> pa.Table:
        return pa.concat_tables([schema.expanded_schema(self.expansion.passed).empty_table(), *self.parts()])


@pytest.fixture(scope="session")
def counter() -> TokenCounter:
    from batchgen.rows.tokens import TokenCounter  # a second to import: only where prompts are counted

    return TokenCounter.load(DEMO_CHECKPOINT)


@pytest.fixture
def manifest(tmp_path: Path, counter: TokenCounter) -> Callable[..., Manifest]:
    """manifest(rows or table, sampling={...}, ...): rows as JSONL, a table as Parquet, with the job's sections.

    looked_at: the folder that is the manifest, where that is not the file alone.
    """

    def look(
        prompts: Any,
        path: Path | None = None,
        looked_at: Path | None = None,
        columns: dict[str, str] | None = None,
        keep_columns: list[str] | None = None,
        digest: str = DIGEST,
        **sections: Any,
    ) -> Manifest:
        path = path or tmp_path / ("a.jsonl" if isinstance(prompts, list) else "a.parquet")
        write(prompts, path)
        job = job_from(
            {
                "input": {"path": str(looked_at or path), "columns": columns or {}, "keep_columns": keep_columns},
                "model": {"preset": "sd3.5-medium"} | sections.pop("model", {}),
                "output": {"path": "out"},
                **sections,
            }
        )
        sources = find_sources(job.input)
        expansion = pickle.loads(pickle.dumps(Expansion.of(job, sources.extras, files_of(digest))))
        return Manifest(path, sources, expansion, counter)

    return look


@pytest.fixture
def expand(manifest: Callable[..., Manifest]) -> Callable[..., pa.Table]:
    """expand(rows or table, sampling={...}, ...) → all image rows as one table."""
    return lambda prompts, **options: manifest(prompts, **options).table()


def write(prompts: Any, path: Path) -> None:
    """Rows (objects or lines) as JSONL, a table as Parquet."""
    if isinstance(prompts, list):
        lines = (row if isinstance(row, str | bytes) else json.dumps(row) for row in prompts)
        path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    else:
        pq.write_table(pa.table(prompts), path)


def only(table: pa.Table) -> dict[str, Any]:
    """The row of a table of one."""
    [row] = table.to_pylist()
    return dict(row)
