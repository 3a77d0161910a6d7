"""budget.py and the renderer that obeys it, without Ray: what is counted, and that no shard is taken any more."""

import threading

import pytest

from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.rendering import worker
from batchgen.rendering.budget import Budget
from batchgen.rendering.receipt import Receipt
from batchgen.rendering.stop import Stop
from batchgen.rendering.worker import Orders, RenderShard
from batchgen.run.attempts import Attempts
from batchgen.run.layout import data_path
from batchgen.storage.store import Store
from tests.in_process import at_once, call


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "run"))


def receipt(renderer, seconds, unfinished=None):
    return Receipt(shard=0, renderer=renderer, renderer_seconds=seconds, unfinished=unfinished)


def test_a_renderers_time_is_counted_once(store):
    stop = Stop(store, "s")
    budget = Budget(store, "s", stop, 1.0, gpus=2)
    for renderer, seconds in (("a", 600), ("b", 300), ("a", 900), ("a", 700), ("c", 0.0)):
        budget.count(receipt(renderer, seconds))
    assert budget.used == pytest.approx(2 * (900 + 300) / 3600)
    assert not budget.spent
    assert not stop.asked()


def test_a_renderer_without_a_gpu_counts_as_one(store):
    budget = Budget(store, "s", Stop(store, "s"), 1.0, gpus=0)
    budget.count(receipt("a", 3600))
    assert (budget.used, budget.spent) == (1.0, True)


def test_the_sign_is_seen_by_renderers_of_this_session_alone(store):
    stops = [Stop(store, "mine"), Stop(store, "other")]
    with Stop(store, "mine") as stop:
        assert [stop.asked() for stop in stops] == [False, False]
        Budget(store, "mine", stop, 0.5, gpus=1).count(receipt("a", 1800))
        assert [stop.asked() for stop in stops] == [True, False]
    assert not Stop(store, "mine").asked()
    assert stops[0].asked(), "what was seen holds, without asking the store"


def test_the_sign_is_taken_down_when_an_error_ends_the_session(store):
    def session():
        with Stop(store, "mine") as stop:
            Budget(store, "mine", stop, 0.5, gpus=1).count(receipt("a", 1800))
            raise ValueError("Ray ended")

    with pytest.raises(ValueError, match="Ray ended"):
        session()
    assert not Stop(store, "mine").asked()


def test_without_a_budget_nothing_is_ever_spent(store):
    budget = Budget(store, "s", Stop(store, "s"), None, gpus=8)
    budget.count(receipt("a", 1e9))
    assert (budget.spent, budget.over()) == (False, False)


def test_it_is_over_when_nothing_is_under_way(store, monkeypatch):
    monkeypatch.setattr("batchgen.rendering.budget.SETTLED_S", 0.0)
    budget = Budget(store, "s", Stop(store, "s"), 0.5, gpus=1)
    seen = []
    for found in (
        receipt("a", 1700), receipt("a", 1800), receipt("a", 1801, 1), receipt("b", 5, 0), receipt("a", 1802, 1),
        receipt("a", 1803, 0), receipt("a", 1804, 0),
    ):  # fmt: skip
        budget.count(found)
        seen.append(budget.over())
    assert seen == [False] * 6 + [True]
    at_work = Attempts(at_once(store), 3, "s", "attempt")
    at_work.begin()
    assert not budget.over(), "a renderer that has not answered yet is on the device"
    at_work.end()
    assert budget.over()


@pytest.fixture
def made(make_job):
    """Two shards: run, a maker of actors, numbers."""
    prepared = prepare(make_job([f"p{i}" for i in range(8)], output={"images_per_shard": 4}))
    run, _ = make_plan(prepared)
    orders = Orders(url=run.store.url, plan=run.plans[0].plan, session="s")
    return run, lambda: RenderShard(orders), [shard.number for shard in run.shards(run.plans[0])]


def test_after_the_sign_no_shard_is_taken(made, monkeypatch):
    run, actor, todo = made
    one = actor()
    first = call(one, todo[0])
    assert (first.images, first.error, first.renderer_seconds > 0) == (4, None, True)
    Stop(run.store, "s").put_up()
    monkeypatch.setattr(worker, "load_renderer", lambda spec: pytest.fail("a late renderer loads no weights"))
    for late in (one, actor()):
        given_back = call(late, todo[1])
        assert (given_back.shard, given_back.unfinished, given_back.error) == (1, 0, None)
    assert not run.store.exists(data_path(1))


def test_a_shard_that_waits_for_the_device_is_given_back(made, monkeypatch):
    run, actor, todo = made
    one, receipts = actor(), []
    on_device, go_on, waiting = threading.Event(), threading.Event(), threading.Event()
    begin, history = Attempts.begin, Attempts.history
    monkeypatch.setattr(Attempts, "begin", lambda self, *row: (begin(self, *row), on_device.set(), go_on.wait(10)))
    threads = [threading.Thread(target=lambda n=n: receipts.append(call(one, todo[n]))) for n in (0, 1)]
    threads[0].start()
    assert on_device.wait(10)
    monkeypatch.setattr(Attempts, "history", lambda self, given: (waiting.set(), history(self, given))[1])
    threads[1].start()
    assert waiting.wait(10), "it has looked for the sign once, and asks next for the device"
    Stop(run.store, "s").put_up()
    threads[1].join(10)
    assert [(receipt.shard, receipt.unfinished) for receipt in receipts] == [(1, 1)], "it does not wait for its turn"
    go_on.set()
    threads[0].join(10)
    assert receipts[1].is_done
    assert (run.store.exists(data_path(0)), run.store.exists(data_path(1))) == (True, False)


def test_what_is_under_way_is_said_until_it_is_committed(made, monkeypatch):
    run, actor, todo = made
    one, receipts, storing, go_on = actor(), [], threading.Event(), threading.Event()
    original = worker.commit
    monkeypatch.setattr(worker, "commit", lambda *a: (storing.set(), go_on.wait(10), original(*a))[2])
    thread = threading.Thread(target=lambda: receipts.append(call(one, todo[0])))
    thread.start()
    assert storing.wait(10)
    Stop(run.store, "s").put_up()
    assert call(one, todo[1]).unfinished == 1
    go_on.set()
    thread.join(10)
    assert (receipts[0].images, receipts[0].unfinished) == (4, None)
    assert call(one, todo[1]).unfinished == 0
    assert run.store.exists(data_path(0))
