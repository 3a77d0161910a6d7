"""run.py and attempts.py: plans are found and told apart, a commit happens once, deaths are counted."""

import dataclasses
import threading
import time

import pytest

from batchgen.errors import OtherPlan, Refused, RunMismatch
from batchgen.run import attempts, layout
from batchgen.run.attempts import Attempts, MarkerWriter
from batchgen.run.directory import Run, commit, publish, refuse_foreign
from batchgen.run.facts import Facts
from batchgen.run.found_model import FoundModel
from batchgen.run.history import History
from batchgen.run.plans import Plan, PlanFile
from batchgen.storage.store import Store
from tests.in_process import at_once
from tests.test_shard import build, footer


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "run"))


def facts(height):
    return Facts.from_dict({"sampling.height": height, "model.dtype": "bfloat16"})


def plan(**changes):
    values = {
        "generation": 0, "plan": "p", "fingerprint": "f", "facts": facts(64), "stored": {},
        "model": FoundModel("m", None, "d"), "batchgen": "0", "images": 3, "skipped_images": 0, "shards": 1,
        "files": [PlanFile("rows-00000.parquet", "0", 3)], "index": PlanFile("index.parquet", "0", 1), "skipped": [],
    }  # fmt: skip
    return Plan(**{**values, **changes})


def test_a_plan_survives_its_json():
    assert Plan.from_json(plan().to_json()) == plan()
    skipped = plan(skipped=[PlanFile("s", "1", 2)])
    assert Plan.from_json(skipped.to_json()) == skipped


def test_a_plan_of_another_layout_is_refused():
    with pytest.raises(Refused, match="cannot read"):
        Plan.from_json(dataclasses.replace(plan(), layout=99).to_json())


def test_of_two_planners_the_first_wins_and_the_second_reads_its_plan(store):
    assert publish(store, plan(plan="first")).plan == "first"
    assert publish(store, plan(plan="second")).plan == "first"
    assert [found.plan for found in Run.open(store).plans] == ["first"]


def test_no_run_is_none_and_opening_it_says_so(store):
    assert Run.find(store) is None
    with pytest.raises(Refused, match="holds no batchgen run"):
        Run.open(store)


def test_another_job_is_told_what_differs(store):
    publish(store, plan())
    found = Run.open(store)
    found.check(facts(64), "f")
    with pytest.raises(RunMismatch, match=r"sampling.height: there 64, now 96") as error:
        found.check(facts(96), "g")
    assert "model:" not in str(error.value)
    assert error.value.exit_code == 4


def test_foreign_files_are_refused_and_a_run_is_not(store, tmp_path):
    refuse_foreign(store)
    publish(store, plan())
    refuse_foreign(store)  # what a planner leaves
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(Refused, match=r"not a batchgen run \(thesis.tex\)"):
        refuse_foreign(store)


def test_a_project_with_our_names_is_no_run(store, tmp_path):
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "shard-000000.parquet").write_text("x")
    (tmp_path / "run" / "README.md").write_text("mine")
    with pytest.raises(Refused, match=r"not a batchgen run \(README.md, data\)"):
        refuse_foreign(store)


def test_a_shard_is_committed_once(store):
    data = build()
    assert commit(store, data, footer()) == "committed"
    assert commit(store, data, footer(attempt_id="another")) == "already"
    assert Run(store, [plan()]).committed() == {3}


def test_after_a_lost_acknowledgement_our_own_object_is_success(store):
    data = build()
    store.create(layout.data_path(3), data)
    assert commit(store, data, footer()) == "committed"


def test_a_shard_of_another_plan_stops_the_job(store):
    store.create(layout.data_path(3), build())
    with pytest.raises(OtherPlan, match="belongs to plan p, ours is q"):
        commit(store, b"", footer(plan="q", attempt_id="b"))


def test_a_foreign_file_in_the_way_stops_the_job(store):
    store.create(layout.data_path(3), b"not parquet")
    with pytest.raises(OtherPlan, match="no shard of ours"):
        commit(store, b"", footer())


@pytest.mark.parametrize(
    "name",
    ["shard-12.parquet", "shard-000001.parquet.tmp", "x.parquet", "shard-00000a.parquet", "bad/shard-000001.parquet"],
)
def test_only_our_own_names_are_shards(name):
    assert layout.shard_number(f"data/{name}") is None
    assert layout.shard_number("data/shard-000012.parquet") == 12


class TestAttempts:
    def attempt(self, store, name, session="driver", shard=3, device=None):
        return Attempts(at_once(store), shard, session, name, device=device or f"device of {name}", process=name)

    def test_what_ends_leaves_no_trace(self, store):
        attempt = self.attempt(store, "a")
        attempt.begin()
        attempt.end()
        attempt.begin()  # a late sign of life, from another thread
        assert self.attempt(store, "b").history() == History(0)

    def test_two_deaths_isolate_the_rows_of_a_shard(self, store):
        for name in ("a", "b"):
            assert not self.attempt(store, name).history().isolate
            self.attempt(store, name).begin()
        assert self.attempt(store, "c").history().isolate
        assert not self.attempt(store, "c", shard=4).history().isolate

    def test_four_deaths_of_a_lone_row_are_its_end(self, store):
        for name in "abcd":
            assert not self.attempt(store, name).history().fatal("bad")
            attempt = self.attempt(store, name)
            attempt.begin("good")
            attempt.survived("good")
            attempt.begin("bad")
        history = self.attempt(store, "e").history()
        assert history.fatal("bad")
        assert not history.fatal("good")
        assert history.alone(["good", "bad"]) == ["bad"]

    def test_one_device_alone_condemns_no_row_where_there_are_others(self, store):
        for name in "abcd":
            self.attempt(store, name, device="the same").begin("bad")
        history = self.attempt(store, "e").history()
        assert (history.fatal("bad"), history.fatal("bad", only_device=True)) == (False, True)
        assert (history.is_anothers_turn("the same"), history.is_anothers_turn("another")) == (True, False)

    def test_a_death_while_storing_is_the_shards_and_not_that_of_one_rendered_beside_it(self, store):
        for name in "ab":
            storing, beside = self.attempt(store, name), self.attempt(store, name, shard=4)
            storing.begin()
            storing.storing()
            if name == "b":
                beside.begin()
        assert not self.attempt(store, "c").history().kills_while_storing
        again = self.attempt(store, "c")
        again.storing()
        assert self.attempt(store, "d").history().kills_while_storing

    @pytest.mark.parametrize(("beside", "deaths"), [("rendering", 0), ("storing", 1), (None, 1)])
    def test_a_shard_that_waited_for_the_device_is_blamed_where_no_other_was_on_it(self, store, beside, deaths):
        waiting, other = self.attempt(store, "a"), self.attempt(store, "a", shard=4)
        waiting.wait()
        if beside == "rendering":
            other.begin()
        if beside == "storing":
            other.storing()
        assert self.attempt(store, "b").history().deaths == deaths
        assert self.attempt(store, "c").history().deaths == deaths, "and it stays so"

    def test_who_is_preempted_while_a_marker_is_being_written_is_no_death(self, store):
        writer = MarkerWriter(store)
        attempt, started, replace = Attempts(writer, 3, "driver", "a"), threading.Event(), writer.hasty.replace
        writer.hasty.replace = lambda path, data: (started.set(), time.sleep(0.2), replace(path, data))
        attempt.begin()
        assert started.wait(10)
        attempt.preempt()
        assert self.attempt(store, "b").history().deaths == 0

    def test_of_two_markers_of_an_attempt_the_last_one_counts(self, store):
        attempt, kept = self.attempt(store, "a"), {}
        for move in (attempt.wait, attempt.begin, attempt.storing):
            move()
            kept |= {path: store.read(path) for paths in attempts.marked(store).values() for path in paths}
        for path, data in kept.items():
            store.replace(path, data)  # as if none had been deleted
        history = self.attempt(store, "b").history()
        assert (len(kept), history.attempts, len(history.died), history.deaths) == (3, 1, 1, 0)

    def test_other_drivers_may_be_alive_so_their_markers_are_no_deaths(self, store):
        for name in ("a", "b", "c"):
            self.attempt(store, name, session=f"driver {name}").begin("row")
        history = self.attempt(store, "d", session="mine").history()
        assert (history.deaths, history.isolate, history.fatal("row")) == (0, False, False)

    def test_a_death_that_was_found_stays_known_to_other_drivers(self, store):
        for name in "abcd":
            self.attempt(store, name).begin("row")
        self.attempt(store, "c").history()
        assert self.attempt(store, "d", session="later").history().fatal("row")

    def test_what_a_driver_ended_died_whatever_it_wrote_then(self, store):
        attempt = self.attempt(store, "a")
        attempt.begin("row")
        ended = attempts.running(store, "driver")
        attempt.preempt()
        attempts.bury(store, ended)
        assert self.attempt(store, "b", session="later").history().row_deaths() == {"row": 1}
        assert attempts.running(store, "another") == {}

    def test_preemption_is_not_the_rows_fault(self, store):
        for name in ("a", "b", "c"):
            attempt = self.attempt(store, name)
            attempt.begin()
            attempt.preempt()
            attempt.beat()
            attempt.begin("row")  # it lives on for a while
        history = self.attempt(store, "d").history()
        assert (history.attempts, history.deaths, history.isolate) == (3, 0, False)

    def test_every_step_is_a_sign_of_life(self, store):
        attempt = self.attempt(store, "a")
        signs = []
        for _ in range(3):
            attempt.begin()
            signs.append(attempts.marked(store))
        assert [set(sign) for sign in signs] == [{3}] * 3
        assert signs[0] != signs[1] != signs[2]

    def test_stray_files_are_passed_over(self, store):
        store.create(".batchgen/attempts/notes.txt", b"x")
        store.create(".batchgen/attempts/shard-000003/half.json", b"{")
        assert attempts.marked(store) == {3: {".batchgen/attempts/shard-000003/half.json"}}
        assert self.attempt(store, "a").history().attempts == 0
