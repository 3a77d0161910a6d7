"""Flips bits of a run's files and cuts them short, one at a time: whatever is changed must be named, without traceback.

`python jobs/bench/chaos.py --part flips` does it 5,000 times; tests/test_flips.py is the short version. The run lies in
memory, and has three generations, failures, skipped rows and a picture format that loses bits.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import batchgen
from batchgen.errors import BatchgenError
from batchgen.finalize.proof import finalize
from batchgen.job.file import job_from
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.plan.retry import plan_retry
from batchgen.run.attempts import FOLDER
from batchgen.run.directory import Run
from batchgen.storage.store import Store
from tests.in_process import render_here

CUT = 0.15  # share of files that are cut short instead


@dataclass
class Found:
    """flips: how many. unnoticed: what was changed and not named. tracebacks: what ended in one."""

    flips: int = 0
    unnoticed: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)


def a_run(folder: Path, name: str) -> Run:
    """A finished run of a few small pictures. folder: for its table and a file that a row waits for."""
    there = folder / f"{name}-there"
    rows = ["a", "", f"b fake:until={there}", "fake:raise", "c"]

    def job(rows: list[str]):
        manifest = folder / f"{name}.jsonl"
        manifest.write_text("\n".join(json.dumps({"prompt": row, "note": f"n{row[:1]}", "x": 0.5}) for row in rows))
        return job_from(
            {
                "input": {"path": str(manifest)},
                "model": {"preset": "fake"},
                "sampling": {"height": 32, "width": 32},
                "output": {"path": f"memory://flips/{name}", "images_per_shard": 2, "image_format": "webp"},
                "errors": {"bad_rows": "skip", "max_failed_fraction": 1.0},
            }
        )

    render_here(make_plan(prepare(job(rows)))[0])
    there.write_text("")
    render_here(make_plan(prepare(job([*rows, "d"]), extend=True))[0])
    return render_here(plan_retry(Run.open(Store.open(f"memory://flips/{name}"))))


def flip(run: Run, count: int, seed: int) -> Found:
    """Change one file at a time, look at the run in every way, put it back."""
    chosen, store = random.Random(seed), run.store
    whole = {entry.path: store.read(entry.path) for entry in store.list() if not entry.path.startswith(f"{FOLDER}/")}
    found = Found()
    for _ in range(count):
        path = chosen.choice(sorted(whole))
        what, data = _changed(chosen, whole[path])
        store.replace(path, data)
        found.flips += 1
        named = False
        for look in LOOKS:
            try:
                named |= any(path in line for line in look(store))
            except BatchgenError as error:
                named |= path in str(error)
            except Exception as error:  # noqa: BLE001
                found.tracebacks.append(f"{path}, {what}, {look.__name__}: {type(error).__name__}: {error}")
        if not named:
            found.unnoticed.append(f"{path}, {what}")
        _put_back(store, whole)
    return found


def _changed(chosen: random.Random, data: bytes) -> tuple[str, bytes]:
    at = chosen.randrange(len(data))
    if chosen.random() < CUT:
        return f"cut at {at}", data[:at]
    bit = chosen.randrange(8)
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return f"bit {bit} of byte {at}", bytes(changed)


def _put_back(store: Store, whole: dict[str, bytes]) -> None:
    for entry in store.list():
        if entry.path not in whole and not entry.path.startswith(f"{FOLDER}/"):
            store.delete(entry.path)
    for path, data in whole.items():
        try:
            same = store.read(path) == data
        except FileNotFoundError:
            same = False
        if not same:
            store.replace(path, data)


def by_the_doctor(store: Store) -> Iterator[str]:
    report = doctor.examine(Run.open(store))
    yield from [*report.problems, *report.notes]


def by_status(store: Store) -> Iterator[str]:
    status_of(Run.open(store))
    yield from ()


def by_a_reader(store: Store) -> Iterator[str]:
    batchgen.open(store.url).to_pandas()
    yield from ()


def by_finalize(store: Store) -> Iterator[str]:
    finalize(Run.open(store))
    yield from ()


LOOKS: list[Callable[[Store], Iterator[str]]] = [by_the_doctor, by_status, by_a_reader, by_finalize]
