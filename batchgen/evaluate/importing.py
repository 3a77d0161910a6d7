"""The prompt files of a benchmark → a manifest that `batchgen render` takes, with all that its scorer needs later.

Knows the columns; what a benchmark's files look like is known to its own file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Benchmark, Prompt
from batchgen.evaluate.benchmarks import benchmark_named
from batchgen.evaluate.prompt_file import PromptFile, WrongFile, digest_of, read_files, split
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.parquet import read_parquet
from batchgen.run.plans import to_parquet

# What every row of a benchmark has. prompt may be rewritten or put into a template; benchmark_prompt stays.
COLUMNS = (
    "id", "prompt", "benchmark", "benchmark_id", "benchmark_prompt", "category", "benchmark_record", "questions",
    "benchmark_sha256", "benchmark_licence",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """images: of each prompt, None where the job decides. categories: how many prompts each has. repeated: prompts with
    the text of one before them."""

    benchmark: str
    licence: str
    manifest: str
    sha256: str
    prompts: int
    images: int | None
    categories: dict[str, int]
    repeated: int


def import_benchmark(name: str, files: Sequence[str], out: str, images: int | None = None) -> Imported:
    """Write a benchmark's prompts as Parquet. images: of each prompt, where it is not to be as the benchmark says.

    Raises Refused for the wrong files, and where out exists.
    """
    benchmark = benchmark_named(name)
    found = read_files(files)
    prompts = _read(benchmark, found)
    sha256, images = digest_of(found), images or benchmark.images
    if not out.endswith(".parquet"):
        raise Refused(f"{out}: the manifest is a Parquet file. Name it so: {out}.parquet")
    store, path = split(out)
    try:
        if not store.create(path, to_parquet(_table(benchmark, prompts, sha256, images))):
            raise Refused(f"{out}: is there already. Name another file, or delete it.")
    finally:  # it is the user's folder, and holds nothing of ours but the manifest
        store.remove_made_folders()
    return Imported(
        benchmark=name,
        licence=benchmark.licence,
        manifest=out,
        sha256=sha256,
        prompts=len(prompts),
        images=images,
        categories=dict(Counter(prompt.category for prompt in prompts)),
        repeated=len(prompts) - len({prompt.prompt for prompt in prompts}),
    )


def read_prompts(name: str, files: Sequence[str]) -> Sequence[Prompt]:
    """A benchmark's prompts. Raises Refused for the wrong files."""
    return _read(benchmark_named(name), read_files(files))


def read_manifest(path: str, benchmark: str) -> pa.Table:
    """What import_benchmark() wrote. Raises Refused where it is something else."""
    store, name = split(path)
    again = f"Make it: batchgen import {benchmark} FILE -o {name if name.endswith('.parquet') else 'manifest.parquet'}"
    try:
        with found_damaged():
            table = read_parquet(store.read(name))
            if set(table["benchmark"].to_pylist()) != {benchmark}:
                raise ValueError("it is of another benchmark")
    except FileNotFoundError as error:
        raise Refused(f"{path}: no such file. {again}") from error
    except DAMAGED as error:
        raise Refused(f"{path}: is no manifest of {benchmark} ({error}). {again}") from error
    return table


def _read(benchmark: Benchmark, files: Sequence[PromptFile]) -> Sequence[Prompt]:
    try:
        prompts = benchmark.read(files)
        if not prompts:
            raise WrongFile("there are no prompts in it")
        twice = [one for one, count in Counter(prompt.benchmark_id for prompt in prompts).items() if count > 1]
        if twice:
            raise WrongFile(f"the id {twice[0]!r} stands there twice")
    except WrongFile as error:
        names = ", ".join(file.name for file in files[:5])
        raise Refused(
            f"{names}: not the prompts of {benchmark.title} ({error}). Expected: {benchmark.files}."
        ) from error
    return prompts


def _table(benchmark: Benchmark, prompts: Sequence[Prompt], sha256: str, images: int | None) -> pa.Table:
    rows = [
        {
            "id": f"{benchmark.name}-{prompt.benchmark_id}",
            "prompt": prompt.prompt,
            "benchmark": benchmark.name,
            "benchmark_id": prompt.benchmark_id,
            "benchmark_prompt": prompt.prompt,
            "category": prompt.category,
            "benchmark_record": prompt.record,
            "questions": prompt.questions_json(),
            "benchmark_sha256": sha256,
            "benchmark_licence": benchmark.licence,
        }
        for prompt in prompts
    ]
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in COLUMNS]))
    numbers: dict[str, Any] = {"num_images_per_prompt": (images, pa.int32()), "seed": (benchmark.seed, pa.int64())}
    for name, (value, kind) in numbers.items():
        if value is not None:
            table = table.append_column(name, pa.array([value] * len(rows), kind))
    return table
