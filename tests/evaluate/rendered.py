"""A benchmark's prompts, imported and rendered on the fake renderer."""

from __future__ import annotations

import json
from pathlib import Path

from batchgen.evaluate.benchmark import Benchmark
from batchgen.evaluate.exported import read_records
from batchgen.evaluate.importing import import_benchmark
from batchgen.export.checking import prompts_of
from batchgen.job.file import job_from
from batchgen.look.results import Results
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import Run
from batchgen.storage.store import Store
from tests.in_process import render_here

SAMPLES = Path(__file__).parent.parent / "samples"
RELAXED = {"max_failed_fraction": 1.0}


def rendered(
    folder: Path, name: str, files: list[Path], out: str = "run", images: int | None = None, **sections
) -> Run:
    """The run of a benchmark whose prompt files these are."""
    manifest = folder / f"{name}-{out}.parquet"
    import_benchmark(name, [str(file) for file in files], str(manifest), images)
    return rendered_table(folder, manifest, out, **sections)


def rendered_table(folder: Path, manifest: Path, out: str = "run", **sections) -> Run:
    """The run of any table."""
    values = {
        "input": {"path": str(manifest)},
        "model": {"preset": "fake"},
        "sampling": {"height": 32, "width": 32},
        "output": {"path": str(folder / out)},
        "errors": RELAXED,
    }
    job = job_from({key: {**values.get(key, {}), **sections.get(key, {})} for key in {*values, *sections}})
    return render_here(make_plan(prepare(job))[0])


def refound(run: Run, folder: Path, benchmark: Benchmark) -> None:
    """What the benchmark's rule finds in an exported folder is what was put there, by the prompts it was put for."""
    (record,) = [one for one in read_records(run.store, benchmark.name) if one.dest == str(folder)]
    ids = dict(zip(*(Results(run.store.url).to_pandas()[name] for name in ("image_id", "benchmark_id")), strict=True))
    finding = benchmark.find(Store.open(str(folder)), prompts_of(run, benchmark))
    found = {(one.path, one.tile): one.benchmark_id for one in finding}
    wanted = {(one.path, one.tile): ids[one.image_id] for one in record.shows}
    assert {key: found.get(key) for key in wanted} == wanted


def written(folder: Path, name: str, rows: list[dict]) -> Path:
    """Rows as a file of JSON lines."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
