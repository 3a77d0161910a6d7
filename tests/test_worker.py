"""The actor without Ray: the actor is a callable object, and everything it promises can be seen by calling it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from batchgen.engines import fake
from batchgen.engines.fake import FakeRenderer
from batchgen.errors import RendererBroken
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.look import doctor
from batchgen.plan import graph
from batchgen.plan.preflight import prepare
from batchgen.rendering import attempt, worker
from batchgen.rendering.worker import Orders, RenderShard
from batchgen.run import attempts
from batchgen.run.directory import owned_footer
from batchgen.run.layout import data_path
from batchgen.run.set_aside import those_set_aside
from tests.in_process import at_once, call


@pytest.fixture
def made(make_job):
    """made(rows, **sections) → (run, actor maker, numbers of its shards)."""

    def make(rows, **sections):
        prepared = prepare(make_job(rows, **sections))
        run, _ = graph.make_plan(prepared)

        def actor(session="driver", model=None, plan=None):
            return RenderShard(Orders(url=run.store.url, plan=plan or run.plans[0].plan, session=session, model=model))

        return run, actor, [shard.number for shard in run.shards(run.plans[0])]

    return make


def orders(run):
    return Orders(url=run.store.url, plan=run.plans[0].plan, session="driver")


def test_two_drivers_at_the_same_shards_commit_each_once(made):
    """Two actors of two drivers, two calls at once in each, all at the same shards: the race that must not matter."""
    run, actor, todo = made([f"p{i}" for i in range(24)], output={"images_per_shard": 4})
    receipts, actors = [], [actor("one"), actor("two")]
    calls = [(one, item) for item in todo for one in actors]
    threads = [threading.Thread(target=lambda one, item: receipts.append(call(one, item)), args=pair) for pair in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [receipt.error for receipt in receipts] == [None] * 12
    assert [receipt.images for receipt in receipts] == [4] * 12
    report = doctor.examine(run)
    assert (report.problems, report.images) == ([], 24)
    assert attempts.marked(run.store) == {}


def test_a_shard_of_another_plan_ends_the_job_with_four(made, tmp_path):
    run, actor, todo = made(["a"], out="one")
    call(actor(), todo[0])
    other, other_actor, other_todo = made(["b"], out="two")
    other.store.create(data_path(0), run.store.read(data_path(0)))
    receipt = call(other_actor(), other_todo[0])
    assert (receipt.kind, "Two jobs share a directory" in receipt.error) == ("OtherPlan", True)


def test_a_node_that_does_not_see_the_plan_says_so(made):
    _, actor, todo = made(["a"])
    receipt = call(actor(plan="another"), todo[0])
    assert (receipt.kind, "Use a path that all nodes share" in receipt.error) == ("Infrastructure", True)


def test_a_renderer_that_cannot_start_is_set_aside(made, monkeypatch):
    def broken(spec):
        raise RendererBroken("CUDA error: no kernel image")

    run, actor, todo = made(["a"])
    monkeypatch.setattr(worker, "load_renderer", broken)
    monkeypatch.setattr(worker, "QUIET_S", 0.1)
    receipt = call(actor(), todo[0])
    said = f"{socket.gethostname()}-{os.getpid()}"
    assert (receipt.is_done, receipt.sick.startswith(said)) == (False, True)
    assert receipt.sick.endswith("cannot be started: CUDA error: no kernel image")
    assert [*those_set_aside(run.store, "driver").values()] == [receipt.sick]


def test_who_is_alone_waits_once_for_a_second_opinion(made, monkeypatch):
    """Not for each of the shards in which a row failed: there may be thousands."""
    asked = []
    original = worker.others_at_work
    monkeypatch.setattr(worker, "others_at_work", lambda *who: (asked.append(who), original(*who))[1])
    monkeypatch.setattr(worker, "ASK_S", 0.1)
    monkeypatch.setattr(worker, "QUIET_S", 1.0)
    monkeypatch.setenv(fake.DEVICE, "gpu 0")
    _, actor, todo = made(["fake:raise", "b"] * 6, output={"images_per_shard": 2}, model={"batch_size": 2})
    first, second = actor(), actor()
    assert [call(first, number).doubted for number in todo] == [1] * 6
    assert [call(second, number).doubted for number in todo] == [2] * 6, "the device has said what it has to say"
    assert len(asked) <= 11 + 5


def test_other_weights_than_the_plans_are_refused(made, tmp_path):
    run, actor, todo = made(["a"], model={"preset": "demo"})
    other = shutil.copytree(DEMO_CHECKPOINT, tmp_path / "other")
    config = other / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text() + " ")
    receipt = call(actor(model=replace(run.plans[0].model, path=str(other))), todo[0])
    assert (receipt.kind, "other" in receipt.error) == ("Refused", True)


def test_an_innocent_row_survives_dead_drivers_and_live_ones(made):
    """Markers of four other drivers at the same lone row, and none of them is a death."""
    run, actor, todo = made(["a"], model={"batch_size": 1})
    image_id = run.rows(run.plans[0], run.shards(run.plans[0])[0])["image_id"][0].as_py()
    for name in "abcd":
        attempts.Attempts(at_once(run.store), 0, f"driver {name}", name).begin(image_id)
    receipt = call(actor("mine"), todo[0])
    assert (receipt.images, receipt.failed) == (1, 0)


def test_a_long_shard_shows_that_it_makes_progress(made, monkeypatch):
    beats = []
    monkeypatch.setattr(attempt, "BEAT_S", 0.0)
    original = attempts.Attempts.beat
    monkeypatch.setattr(attempts.Attempts, "beat", lambda self: (beats.append(self), original(self)))
    _, actor, todo = made(["a", "b", "c", "d"], model={"batch_size": 1}, output={"images_per_shard": 4})
    call(actor(), todo[0])
    assert len(beats) == 4


def test_a_broken_context_leaves_the_process_and_its_marker(made, tmp_path):
    """In a process of its own, because it ends that process."""
    run, _, _ = made(["a"])
    script = (
        "import pyarrow as pa\nfrom batchgen.rendering import worker\nfrom batchgen.rendering.worker import Orders\n"
        "from batchgen.errors import RendererBroken\n"
        "class Broken:\n"
        "    device, versions = 'x', {}\n"
        "    def sigmas(self, row): return []\n"
        "    def prepare(self, rows): return None\n"
        "    def encode(self, rows): raise RendererBroken('CUDA error')\n"
        "worker.load_renderer = lambda spec: Broken()\n"
        f"actor = worker.RenderShard({orders(run)!r})\n"
        "actor(pa.table({'shard': [0]}))\n"
        "print('not reached')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, "leaving the process" in done.stderr) == (1, "", True)
    assert attempts.Attempts(at_once(run.store), 0, "driver", "next").history().deaths == 1


def test_sigterm_marks_a_preemption_and_ends_the_process(made, tmp_path):
    run, _, _ = made(["fake:slow=30"])
    script = (
        "import pyarrow as pa\nfrom batchgen.rendering import worker\nfrom batchgen.rendering.worker import Orders\n"
        f"actor = worker.RenderShard({orders(run)!r})\n"
        "actor(pa.table({'shard': [0]}))"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while not attempts.marked(run.store):
        assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(20) != 0
    history = attempts.Attempts(at_once(run.store), 0, "driver", "next").history()
    assert (history.attempts, history.deaths) == (1, 0)


def test_images_are_compressed_while_the_device_goes_on(made, monkeypatch):
    """P6: the second batch is on the device before the first one's pictures are encoded."""
    order, gate = [], threading.Event()
    original_denoise, original_finish = FakeRenderer.denoise, attempt.finish

    def denoise(self, rows, embeds, prepared=None):
        order.append("denoise")
        if len(order) == 2:
            gate.set()
        return original_denoise(self, rows, embeds, prepared)

    def finish(*arguments, **named):
        assert gate.wait(10), "the device waited for a picture to be encoded"
        return original_finish(*arguments, **named)

    monkeypatch.setattr(FakeRenderer, "denoise", denoise)
    monkeypatch.setattr(attempt, "finish", finish)
    run, actor, todo = made([f"p{i}" for i in range(8)], output={"images_per_shard": 8})
    assert call(actor(), todo[0]).images == 8
    assert owned_footer(run.store, 0, run.plans[0].plan).images == 8


def test_a_shard_says_how_much_memory_its_renderer_took(made, monkeypatch):
    monkeypatch.setattr(FakeRenderer, "peak_memory", lambda self: 12_345)
    run, actor, todo = made(["a"])
    call(actor(), todo[0])
    assert owned_footer(run.store, 0, run.plans[0].plan).constants["peak_memory_bytes"] == 12_345


def test_pictures_are_stored_at_the_quality_of_the_job(made):
    sizes = []
    for quality in (20, 90):
        run, actor, todo = made(
            ["a", "b"], out=f"q{quality}", output={"image_format": "jpeg", "image_quality": quality}
        )
        assert call(actor(), todo[0]).images == 2
        with run.store.open_file(data_path(0)) as file:
            sizes.append(len(pq.read_table(file)["image"][0].as_py()["bytes"]))
    assert sizes[0] < sizes[1]


def test_one_thread_has_the_device(made, monkeypatch):
    """It makes the renderer and calls all of it, whichever thread of Ray brings the shard."""
    seen = {}

    def noted(name):
        original = getattr(FakeRenderer, name)

        def method(self, *given, **named):
            seen.setdefault(name, set()).add(threading.current_thread().name)
            return original(self, *given, **named)

        monkeypatch.setattr(FakeRenderer, name, method)

    for name in ("__init__", "encode", "denoise", "finite", "decode", "sigmas", "peak_memory"):
        noted(name)
    run, actor, todo = made([f"p{i}" for i in range(32)], output={"images_per_shard": 4}, model={"batch_size": 2})
    one = actor()
    threads = [threading.Thread(target=call, args=(one, number)) for number in todo]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(run.committed()) == 8
    (name,) = set.union(*seen.values())
    assert (len(seen), name.startswith("device")) == (7, True)


def test_the_device_waits_for_no_marker(made, monkeypatch):
    """A store that takes no marker holds neither the device nor, for long, the shard."""
    rendered, original = threading.Event(), attempts.Attempts._write

    def write(self):
        assert rendered.wait(10), "the device waited for its marker"
        original(self)

    monkeypatch.setattr(attempts, "PATIENCE_S", 0.05)
    monkeypatch.setattr(attempts.Attempts, "_write", write)
    decode = FakeRenderer.decode
    monkeypatch.setattr(FakeRenderer, "decode", lambda self, *given: (rendered.set(), decode(self, *given))[1])
    run, actor, todo = made(["a", "b"])
    assert call(actor(), todo[0]).images == 2
    assert attempts.marked(run.store) == {}
