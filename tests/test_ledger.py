"""The ledger: finalize says the same with it, without it, and with one that is damaged, behind or of other files."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest

from batchgen.finalize.metadata import metadata
from batchgen.finalize.proof import finalize, proven
from batchgen.job.file import job_from
from batchgen.look import doctor
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.rendering.worker import Orders, RenderShard
from batchgen.run import ledger
from batchgen.run.attempts import marked
from batchgen.run.layout import SUCCESS, data_path
from batchgen.storage.backends import Remote
from tests.crews import crew_of
from tests.flips import a_run
from tests.in_process import call, render_here
from tests.one_colour import commit_shard


@pytest.fixture(scope="module")
def generations(tmp_path_factory):
    """Three generations in memory, with failures, of which one is planned again, and skipped rows."""
    return a_run(tmp_path_factory.mktemp("ledger"), "ledger")


def planned(make_job, count, per_shard=1):
    sections = {"model": {"batch_size": 1}, "output": {"images_per_shard": per_shard}}
    job = make_job([f"p{i}" for i in range(count)], **sections)
    return make_plan(prepare(job))[0]


def commit_all(run):
    """All shards, and their entries."""
    return [commit_shard(run, run.plans[0], shard) for shard in run.shards(run.plans[0])]


def write(run, entries):
    with ledger.Writer(run.store) as writer:
        for entry in entries:
            writer.add(entry["shard"][0].as_py(), entry)


def rows(tables):
    return [row for table in tables for row in table.to_pylist()]


def books(run):
    """The bytes of the metadata that a finalize writes now."""
    run.store.delete(SUCCESS)
    finalize(run)
    return {entry.path: run.store.read(entry.path) for entry in run.store.list("metadata")}


@pytest.fixture
def requests(monkeypatch):
    """What is asked of an object store from here on: (operation, path)."""
    asked = []

    def count(name, operation):
        def counted(self, path, *more):
            asked.append((name, path))
            return operation(self, path, *more)

        monkeypatch.setattr(Remote, name, counted)

    for name in ("read", "read_range", "size", "list", "replace", "create", "delete"):
        count(name, getattr(Remote, name))
    return asked


def test_the_books_are_the_same_to_the_byte_with_and_without_a_ledger(generations):
    run = generations
    sizes = run.stored()
    said = ledger.entries(run.store, sizes)
    assert said.keys() == sizes.keys()
    assert rows(metadata(run, sizes=sizes)) == rows(metadata(run))
    with_it = books(run)
    for entry in run.store.list(ledger.FOLDER):
        run.store.delete(entry.path)
    assert books(run) == with_it
    write(run, said.values())


def test_with_a_ledger_no_data_file_is_opened_and_each_file_of_the_plan_is_read_once(generations, requests):
    generations.store.delete(SUCCESS)
    requests.clear()
    finalize(generations)
    assert not [path for name, path in requests if path.startswith("data/")]
    rows_of_plans = Counter(path for name, path in requests if name == "read" and "/rows-" in path)
    assert len(rows_of_plans) == 3
    assert set(rows_of_plans.values()) == {1}


def test_without_a_ledger_a_shard_is_two_requests(tmp_path, requests):
    manifest = tmp_path / "p.jsonl"
    manifest.write_text("\n".join(json.dumps({"prompt": f"p{i}"}) for i in range(40)))
    job = job_from(
        {
            "input": {"path": str(manifest)},
            "model": {"preset": "fake", "batch_size": 1},
            "sampling": {"height": 32, "width": 32},
            "output": {"path": "memory://ledger/cold", "images_per_shard": 1},
        }
    )
    run = make_plan(prepare(job))[0]
    commit_all(run)
    requests.clear()
    finalize(run)
    of_data = Counter(path for name, path in requests if path.startswith("data/"))
    assert len(of_data) == 40
    assert max(of_data.values()) <= 2
    assert len(requests) <= 40 * 2 + 25


def test_what_is_damaged_is_passed_over_and_named(generations):
    run = generations
    before = books(run)
    (path,) = [entry.path for entry in run.store.list(ledger.FOLDER)][:1]
    whole = run.store.read(path)
    for at in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        run.store.replace(path, bytes(changed))
        assert list(ledger.damaged(run.store)) == [path]
    assert any(path in note for note in doctor.examine(run).notes)
    assert books(run) == before
    run.store.replace(path, whole)
    assert doctor.examine(run).notes == []


def test_a_file_that_was_rendered_again_is_not_taken_for_the_one_before(make_job):
    run = planned(make_job, 3)
    entries = commit_all(run)
    write(run, entries)
    run.store.delete(data_path(1))
    ledger.forget(run.store, {1})
    assert ledger.entries(run.store, run.stored()) == {}, "the file that said it said the others too"
    again = commit_shard(run, run.plans[0], run.shards(run.plans[0])[1], attempt_id="another")
    write(run, [again])
    assert ledger.entries(run.store, run.stored()).keys() == {1}
    assert finalize(run).images == 3
    assert doctor.examine(run).problems == []


def test_of_a_shard_that_two_entries_tell_differently_the_file_is_asked(make_job):
    run = planned(make_job, 2)
    entries = commit_all(run)
    names = ledger.SCHEMA.names
    other = entries[0].set_column(names.index("attempt_id"), ledger.SCHEMA.field("attempt_id"), [["another"]])
    write(run, entries)
    assert ledger.entries(run.store, run.stored()).keys() == {0, 1}
    write(run, [other])
    assert ledger.entries(run.store, run.stored()).keys() == {1}
    assert finalize(run).images == 2
    assert doctor.examine(run).problems == []


def test_an_entry_of_a_file_of_another_size_is_not_believed(make_job):
    run = planned(make_job, 2)
    write(run, commit_all(run))
    sizes = run.stored()
    assert ledger.entries(run.store, sizes | {0: sizes[0] + 1}).keys() == {1}


def test_forgetting_keeps_what_is_said_of_shards_that_are_there(make_job):
    run = planned(make_job, 4)
    entries = commit_all(run)
    write(run, entries[:2])
    write(run, entries[2:])
    ledger.forget(run.store, {3})
    assert ledger.entries(run.store, run.stored()).keys() == {0, 1}


def test_many_shards_make_several_files_and_what_waits_is_written_at_the_end(make_job, monkeypatch):
    monkeypatch.setattr(ledger, "SHARDS_PER_FILE", 2)
    run = planned(make_job, 5)
    entries = commit_all(run)
    write(run, [ledger.unpack(ledger.pack(entry)) for entry in entries])
    assert len(run.store.list(ledger.FOLDER)) == 3
    assert ledger.entries(run.store, run.stored()).keys() == set(range(5))


def test_a_store_that_takes_no_ledger_stops_nobody(make_job, tmp_path):
    run = planned(make_job, 2)
    (tmp_path / "run" / ledger.FOLDER).write_text("a file where the folder should be")
    write(run, commit_all(run))
    assert run.store.list(ledger.FOLDER) == []
    assert finalize(run).images == 2


def test_who_comes_second_tells_what_the_first_stored(make_job):
    run = make_plan(prepare(make_job(["fake:slow=0.7"])))[0]
    (plan,) = run.plans
    actor = RenderShard(Orders(url=run.store.url, plan=plan.plan, session="driver", only_device=True))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, actor, 0)
        while not marked(run.store):  # it is at work
            time.sleep(0.01)
        first = commit_shard(run, plan, run.shards(plan)[0])
    assert ledger.unpack(answer.result().entry).equals(first)


def test_a_driver_keeps_what_it_hears_and_forgets_what_is_missing(make_job, monkeypatch, console):
    crew = crew_of(monkeypatch, console)
    prepared = prepare(make_job([f"p{i}" for i in range(6)], model={"batch_size": 1}, output={"images_per_shard": 2}))
    run = crew(make_plan(prepared)[0], prepared, {"gpu a": ""})
    before = ledger.entries(run.store, run.stored())
    assert before.keys() == {0, 1, 2}
    run.store.delete(data_path(1))
    crew(run, prepared, {"gpu a": ""})
    (kept,) = run.store.list(ledger.FOLDER)
    with run.store.open_file(kept.path) as opened:
        told = pq.read_table(opened)
    assert set(told["shard"].to_pylist()) == {1}
    assert set(told["attempt_id"].to_pylist()).isdisjoint(before[1]["attempt_id"].to_pylist())
    assert finalize(run).images == 6


def test_renderers_tell_the_ledger_what_they_stored(make_job):
    run = render_here(planned(make_job, 5, per_shard=2))
    sizes = run.stored()
    said = ledger.entries(run.store, sizes)
    assert said.keys() == sizes.keys()
    for number, entry in said.items():
        with run.store.open_file(data_path(number)) as opened:
            assert entry.equals(ledger.read_entry(opened))
    assert proven(run)
