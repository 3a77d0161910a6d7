"""Random schedules of whole commands on one store in memory, with crashes, lost requests and lost acknowledgements.

Commands are `session.render` itself, from preparing to finalizing: planners, extenders, retriers, some with a budget.
Only what Ray would do is done here, shard by shard, with pictures of one colour. One command runs at a time, and each
request to the store is a place where another may go on instead. A seed is a schedule, the same each time.

`python -m tests.schedules 10000` counts violations over so many seeds; tests/test_schedules.py is the short version.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tempfile
import threading
import traceback
import types
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

import batchgen
from batchgen import session
from batchgen.errors import BatchgenError, BudgetSpent
from batchgen.finalize.proof import proven
from batchgen.job.file import job_from
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.run import ledger, reading
from batchgen.run.directory import Run
from batchgen.run.layout import CARD, SUCCESS, data_path
from batchgen.run.shard_file import read_facts
from batchgen.storage import store
from batchgen.storage.store import Store
from tests.interleaving import Actor, Memory, World
from tests.one_colour import commit_shard

URL = "memory://schedules/run"
FLAKY = "may fail"
ROWS = {"small": 3, "medium": 5, "large": 6}  # of which every third may fail


class Command(Actor):
    """One `batchgen render`. budget: shards after which it stops, as --max-gpu-hours does. code: its exit code."""

    def __init__(self, world: World, job, options: session.Options, budget: int | None = None) -> None:
        super().__init__(self.render)
        self.world, self.job, self.options, self.budget = world, job, options, budget
        self.random = random.Random(world.random.random())

    def render(self) -> object:
        now.command = self
        try:
            session.render(self.job, Console(file=io.StringIO()), self.options)
        except BatchgenError as error:
            return error.exit_code
        except Exception:  # noqa: BLE001
            self.world.violations.append(traceback.format_exc())
            return "traceback"
        return 0

    def render_missing(self, run, display) -> None:
        left = self.budget
        for plan in run.plans:
            committed = run.committed()
            shards = [shard for shard in run.shards(plan) if shard.number not in committed]
            self.random.shuffle(shards)
            ledger.forget(run.store, {shard.number for shard in shards})
            with ledger.Writer(run.store) as writer:
                for shard in shards if left is None else shards[:left]:
                    self.render_shard(run, plan, shard, writer)
                    display.tally.add(shard.rows, 0, 0)
                    left = left and left - 1
            if {shard.number for shard in run.shards(plan)} - run.committed():  # asked anew, as the real one does
                raise BudgetSpent("as asked")

    def render_shard(self, run, plan, shard, writer) -> None:
        if run.store.exists(data_path(shard.number)):
            with run.store.open_file(data_path(shard.number)) as opened:
                writer.add(shard.number, ledger.read_entry(opened))
            return
        prompts = run.rows(plan, shard)["prompt"].to_pylist()
        fails = [FLAKY in prompt and self.random.random() < 0.5 for prompt in prompts]
        entry = commit_shard(run, plan, shard, fails, f"{self.random.random()}")
        if entry is not None:
            writer.add(shard.number, entry)


now = threading.local()


def rows_of_data(run: Run) -> dict[str, str]:
    """image_id → ok or failed, of the newest generation that has it."""
    found = {}
    for plan in run.plans:
        for shard in run.shards(plan):
            found |= rows_of_file(Memory.world.objects[data_path(shard.number)])
    return found


@lru_cache(maxsize=64)
def rows_of_file(data: bytes) -> dict[str, str]:
    footer, good = read_facts(io.BytesIO(data))
    return dict.fromkeys(footer.failures, "failed") | dict.fromkeys(good["image_id"].to_pylist(), "ok")


def rows_of_books(run: Run) -> dict[str, str]:
    frame = batchgen.open(run.store.url).to_pandas()
    assert frame["image_id"].is_unique
    return dict(zip(frame["image_id"], frame["status"], strict=True))


def check_success(world: World) -> None:
    """At any moment: what _SUCCESS says, if it can be believed, is true."""
    if SUCCESS not in world.objects:
        return
    run = Run.open(Store.open(URL))
    if not proven(run):
        return
    if missing := set(range(run.next_shard)) - run.committed():
        world.violations.append(f"_SUCCESS is believed while shards {missing} are missing")
    elif rows_of_books(run) != rows_of_data(run):
        world.violations.append("_SUCCESS is believed and metadata/ is not what data/ holds")


def check_at_rest(world: World) -> None:
    """All commands have ended with 0: whatever tells of the run tells what data/ holds."""
    run = Run.open(Store.open(URL))
    missing = set(range(run.next_shard)) - run.committed()
    report, status = doctor.examine(run), status_of(run)
    problems = [problem for problem in report.problems if "is missing (" not in problem]
    if problems or len(report.problems) != len(missing):
        world.violations.append(f"doctor: {report.problems}")
    if status.complete == bool(missing):
        world.violations.append(f"status says complete: {status.complete}, missing are {missing}")
    if missing:
        if SUCCESS in world.objects:
            world.violations.append("_SUCCESS stands over a run that is not complete")
        return
    rows, totals = rows_of_data(run), proven(run)
    images_, failed = (list(rows.values()).count(state) for state in ("ok", "failed"))
    if not totals or (totals.images, totals.failed, len(rows)) != (images_, failed, run.planned):
        world.violations.append(f"_SUCCESS says {totals}, data/ holds {images_} and {failed}")
    if (status.images, status.failed, status.planned) != (images_, failed, run.planned):
        world.violations.append(f"status says {status}, data/ holds {images_} and {failed}")
    if rows_of_books(run) != rows:
        world.violations.append("metadata/ is not what data/ holds")
    if f"\n{images_} images of {run.planned} planned" not in world.objects[CARD].decode():
        world.violations.append("the card tells other counts")


def jobs_in(folder: Path):
    jobs = {}
    for name, count in ROWS.items():
        lines = [json.dumps({"prompt": f"p{i} {FLAKY if i % 3 == 1 else ''}"}) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        jobs[name] = job_from(
            {
                "input": {"path": str(folder / f"{name}.jsonl")},
                "model": {"preset": "fake", "batch_size": 1},
                "sampling": {"height": 32, "width": 32},
                "output": {"path": URL, "images_per_shard": 2},
                "errors": {"max_failed_fraction": 1.0},
            }
        )
    return jobs


def a_command(world: World, jobs) -> Command:
    chosen = world.random
    options = session.Options(extend=chosen.random() < 0.7, retry_failed=chosen.random() < 0.3)
    budget = chosen.choice([None, None, None, 1, 2])
    return Command(world, jobs[chosen.choice(list(jobs))], options, budget)


def schedule(seed: int, jobs) -> list[str]:
    """What went wrong in the schedule of this seed."""
    world = Memory.world = World(seed, check_success)
    for _ in range(world.random.choice([1, 2, 3])):
        codes = world.run([a_command(world, jobs) for _ in range(world.random.choice([1, 2, 2, 3]))])
        if codes == [0] * len(codes):
            check_at_rest(world)
    last = partial(Command, world, jobs["large"], session.Options(extend=True))
    code = world.run_alone(last())
    if code != 0:
        world.violations.append(f"a last command alone ends with {code}")
        return world.violations
    check_at_rest(world)
    before = world.writes
    world.run_alone(last())
    if world.writes != before:
        world.violations.append("a command that had nothing to do wrote something")
    return world.violations


class InTurn:
    """A pool of one thread: the caller's."""

    def __init__(self, workers: int) -> None: ...

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, item):
        answer = Future()
        answer.set_result(function(item))
        return answer


@contextmanager
def one_process():
    """Ray, threads and waiting are left out, and memory:// is Memory."""
    graph = types.SimpleNamespace(
        render_missing=lambda run, job, model, display, max_gpu_hours=None: now.command.render_missing(run, display)
    )

    @contextmanager
    def connected(cluster):
        yield

    connection = types.SimpleNamespace(
        connected=connected, check_room=lambda job: None, with_renderers=lambda job, weights, shards: job
    )
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setitem(sys.modules, "batchgen.rendering.graph", graph)
        patch.setitem(sys.modules, "batchgen.cluster.connection", connection)
        patch.setattr(reading, "ThreadPoolExecutor", InTurn)
        patch.setattr(doctor, "READERS", 1)
        patch.setattr(store, "Remote", Memory)
        patch.setattr(store, "FIRST_DELAY", 0.0)
        yield jobs_in(Path(folder))


def violations_of(seeds: range) -> dict[int, list[str]]:
    """By the seeds that have any."""
    pa.set_cpu_count(1)
    with one_process() as jobs:
        found = {seed: schedule(seed, jobs) for seed in seeds}
    return {seed: problems for seed, problems in found.items() if problems}


def main(count: int) -> int:
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        parts = [range(at, count, workers) for at in range(workers)]
        found = {seed: problems for part in pool.map(violations_of, parts) for seed, problems in part.items()}
    for seed, problems in sorted(found.items())[:10]:
        print(f"seed {seed}: {problems}", file=sys.stderr)
    print(json.dumps({"schedules": count, "violations": len(found)}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
