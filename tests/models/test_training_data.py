"""Reading a run for training: an epoch has every picture once, on any workers and nodes, stopped anywhere or not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import DataLoader

import batchgen
from batchgen.errors import Infrastructure, Refused
from batchgen.job.file import job_from
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.layout import SUCCESS
from batchgen.storage.store import Store
from tests.in_process import render_here

SIZES = [(32, 32), (32, 32), (48, 32), (32, 32), (48, 32), (64, 64), (32, 32), (48, 32), (32, 32), (32, 32), (32, 32)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """11 pictures of three sizes and one failure, in files of at most three."""
    folder = tmp_path_factory.mktemp("training")
    rows = [
        {"prompt": f"prompt {n}", "id": f"p{n:02}", "height": height, "width": width, "empty": None}
        | ({"style": "ink", "weight": 0.5, "count": n, "liked": True} if n % 2 else {})
        for n, (height, width) in enumerate(SIZES)
    ]
    rows.append({"prompt": "fake:raise", "id": "bad", "height": 32, "width": 32})
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = {
        "input": {"path": str(folder / "prompts.jsonl")},
        "model": {"preset": "fake"},
        "output": {"path": str(folder / "run"), "images_per_shard": 3},
        "errors": {"max_failed_fraction": 1.0},
    }
    return render_here(make_plan(prepare(job_from(job)))[0]).store.url


@pytest.fixture
def results(out):
    return batchgen.open(out)


def names(batches):
    """prompt_ids, in the order in which they came."""
    found = []
    for batch in batches:
        found += [batch["prompt_id"]] if isinstance(batch["prompt_id"], str) else batch["prompt_id"]
    return found


ALL = sorted(f"p{n:02}" for n in range(len(SIZES)))


def test_examples_are_pictures_with_their_rows(results):
    frame = results.to_pandas().set_index("image_id")
    examples = list(results.torch())
    assert sorted(names(examples)) == ALL
    for example in examples:
        image, row = example["image"], frame.loc[example["image_id"]]
        assert image.dtype == torch.uint8
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(results.image(example["image_id"])))
        assert (example["prompt"], example["seed"]) == (row["prompt"], row["seed"])
    assert len(results.torch()) == len(SIZES)


def test_nulls_have_one_value_in_all_batches(results):
    examples = {example["prompt_id"]: example for example in results.torch()}
    assert "empty" not in examples["p00"]
    assert "suspect" not in examples["p00"] or isinstance(examples["p00"]["suspect"], str)
    assert [examples["p01"][name] for name in ("style", "weight", "count", "liked")] == ["ink", 0.5, 1.0, 1.0]
    assert examples["p00"]["style"] == ""
    assert all(np.isnan(examples["p00"][name]) for name in ("weight", "count", "liked"))
    types = {name: {type(example[name]) for example in examples.values()} for name in examples["p00"]}
    assert all(len(kinds) == 1 for kinds in types.values()), types
    asked = next(iter(results.torch(columns=["empty", "weight"])))
    assert {*asked} == {"image", "empty", "weight", "_position"}, "what is asked for is there, null or not"
    assert asked["empty"] == ""


def test_a_plain_loader_collates_them(results):
    chosen = results.to_pandas().query("height == 32 and status == 'ok'")["image_id"]
    for batch in DataLoader(results.torch(image_ids=chosen), batch_size=3, num_workers=1):
        assert batch["image"].shape[1:] == (3, 32, 32)
        assert batch["seed"].dtype == torch.int64
    transform = torch.nn.AdaptiveAvgPool2d(8)
    data = results.torch(columns=["prompt"], transform=lambda image: transform(image.float()))
    (batch,) = DataLoader(data, batch_size=100)
    assert batch["image"].shape == (11, 3, 8, 8)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_have_one_size(results, workers, shuffle):
    data = results.torch(batch_size=2, shuffle=shuffle)
    batches = list(DataLoader(data, batch_size=None, num_workers=workers))
    assert sorted(names(batches)) == ALL
    assert Counter(tuple(batch["image"].shape[2:]) for batch in batches) == {(32, 32): 4, (48, 32): 2, (64, 64): 1}
    assert len(data) == len(batches) == 7


@pytest.mark.parametrize("batch_size", [None, 2])
def test_nodes_and_workers_divide_an_epoch(results, monkeypatch, batch_size):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found, lengths = [], []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        data = results.torch(batch_size=batch_size, shuffle=True)
        batches = list(DataLoader(data, batch_size=None, num_workers=2))
        assert len(batches) == len(data)
        found += names(batches)
        lengths.append(len(batches))
    assert sorted(found) == ALL
    assert abs(lengths[0] - lengths[1]) <= 1


def test_epochs_have_orders_of_their_own(results):
    data, orders = results.torch(columns=["prompt_id"], shuffle=True), []
    loader = DataLoader(data, batch_size=None, num_workers=1, persistent_workers=True)
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        orders.append(names(loader))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == ALL
    assert orders[0] != names(results.torch(columns=["prompt_id"], shuffle=True, seed=1))


def taken(data, workers, count, loader_size=None):
    """What a trainer gets that takes so many batches, and the state that it saves then, as JSON."""
    loader, had = DataLoader(data, batch_size=loader_size, num_workers=workers), []
    for batch in loader:
        had.append(batch)
        data.mark(batch)
        if len(had) == count:
            break
    return had, json.dumps(data.state_dict())


@pytest.mark.parametrize(
    ("workers", "batch_size", "loader_size"),
    [(0, None, None), (0, 2, None), (0, None, 3), (1, 2, None), (2, None, None), (2, 2, None), (2, None, 3)],
)
def test_an_epoch_that_is_stopped_anywhere_goes_on(results, workers, batch_size, loader_size):
    """Workers have read ahead when the trainer stops, and what they read is not lost."""
    square = None if loader_size is None else results.to_pandas().query("height == 32 and status == 'ok'")["image_id"]

    def opened():
        data = results.torch(["prompt_id"], image_ids=square, batch_size=batch_size, shuffle=True, seed=3)
        data.set_epoch(5)
        return data

    whole, _ = taken(opened(), workers, 99, loader_size)
    assert len(whole) >= 3
    for count in range(1, len(whole) + 1):
        had, state = taken(opened(), workers, count, loader_size)
        again = results.torch(["prompt_id"], image_ids=square, batch_size=batch_size, shuffle=True, seed=3)
        again.load_state_dict(json.loads(state))
        rest, at_the_end = taken(again, workers, 99, loader_size)
        assert sorted(names(had) + names(rest)) == sorted(names(whole)), count
        assert json.loads(state)["epoch"] == json.loads(at_the_end)["epoch"] == 5
        if count == 1:
            again.set_epoch(6)
            assert sorted(names(taken(again, workers, 99, loader_size)[0])) == sorted(names(whole)), "the next is whole"


def test_stopped_twice_and_the_same_epoch_again(results):
    data = results.torch(["prompt_id"], shuffle=True)
    had, state = taken(data, 2, 2)
    data = results.torch(["prompt_id"], shuffle=True)
    data.load_state_dict(json.loads(state))
    assert json.loads(json.dumps(data.state_dict())) == json.loads(state), "before anything is read"
    more, state = taken(data, 2, 3)
    data = results.torch(["prompt_id"], shuffle=True)
    data.load_state_dict(json.loads(state))
    rest, _ = taken(data, 2, 99)
    assert sorted(names(had) + names(more) + names(rest)) == ALL
    second, state = taken(data, 2, 1)
    assert sum(json.loads(state)["taken"]) == 1, "a loader that begins again begins from the first"
    data.load_state_dict(json.loads(state))
    assert sorted(names(second) + names(taken(data, 2, 99)[0])) == ALL


def test_marking_twice_is_marking_once(results):
    data = results.torch(["prompt_id"])
    for batch in DataLoader(data, batch_size=None, num_workers=2):
        data.mark(batch)
        before = data.state_dict()
        data.mark(batch)
        assert data.state_dict() == before


def test_without_workers_nothing_need_be_marked(results):
    data = results.torch(["prompt_id"])
    read = iter(data)
    had = [next(read), next(read)]
    state = data.state_dict()
    again = results.torch(["prompt_id"])
    again.load_state_dict(state)
    assert sorted(names(had) + names(again)) == ALL


def test_each_node_goes_on_with_its_own_state(results, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found, states = [], {}
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        had, states[rank] = taken(results.torch(batch_size=2, shuffle=True), 2, 1 + int(rank))
        found += names(had)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        data = results.torch(batch_size=2, shuffle=True)
        data.load_state_dict(json.loads(states[rank]))
        found += names(taken(data, 2, 99)[0])
    assert sorted(found) == ALL
    with pytest.raises(Refused, match=r"rank: there 0, now 1.*give each node its own state"):
        data.load_state_dict(json.loads(states["0"]))


TRAINER = """
import json, os, sys, time
import batchgen
from torch.utils.data import DataLoader
out, place = sys.argv[1:]
data = batchgen.open(out).torch(["prompt_id"], batch_size=2, shuffle=True)
if os.path.exists(place + "/state"):
    data.load_state_dict(json.load(open(place + "/state")))
if __name__ == "__main__":
    for batch in DataLoader(data, batch_size=None, num_workers=2):
        data.mark(batch)
        with open(place + "/new", "w") as file:
            json.dump(data.state_dict(), file)
        with open(place + "/had", "a") as file:
            file.write("".join(name + "\\n" for name in batch["prompt_id"]))
        os.replace(place + "/new", place + "/state")
        time.sleep(0.2)
"""


def test_a_trainer_that_is_killed_goes_on(out, tmp_path):
    """Killed while its workers read ahead, between two batches."""

    def start():
        return subprocess.Popen([sys.executable, "-c", TRAINER, out, str(tmp_path)], start_new_session=True)

    for least in (2, 5):
        trainer, patience = start(), time.monotonic() + 60
        while not (tmp_path / "had").exists() or len((tmp_path / "had").read_text().split()) < least:
            assert trainer.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.01)
        time.sleep(0.05)  # the state of this batch is written
        os.killpg(trainer.pid, signal.SIGKILL)
        trainer.wait()
        assert len((tmp_path / "had").read_text().split()) < len(ALL)
    assert start().wait(60) == 0
    assert sorted((tmp_path / "had").read_text().split()) == ALL


def test_who_forgets_to_mark_is_told(results):
    data = results.torch(["prompt_id"])
    next(iter(DataLoader(data, batch_size=None, num_workers=1)))
    with pytest.raises(Refused, match=r"call mark\(batch\)"):
        data.state_dict()
    with pytest.raises(Refused, match="'_position'"):
        data.mark({"image": 1})


def test_states_of_something_else_are_refused(results):
    data = results.torch(["prompt_id"], batch_size=2)
    _, state = taken(data, 2, 2)
    some = results.to_pandas().query("status == 'ok'")["image_id"][:4]
    for other in ({"batch_size": 3}, {"shuffle": True}, {"seed": 1}, {"image_ids": some}):
        other = {"batch_size": 2} | other
        with pytest.raises(Refused, match="the state is of another dataset"):
            results.torch(["prompt_id"], **other).load_state_dict(json.loads(state))
    data.load_state_dict(json.loads(state))
    with pytest.raises(Refused, match="the state is of 2 workers, and the loader has 1"):
        list(DataLoader(data, batch_size=None, num_workers=1))


def test_mistakes_are_said_at_once(results):
    with pytest.raises(Refused) as refused:
        results.torch(["promt", "seed"], image_ids=["nobody"])
    assert "no column 'promt' in data/. Did you mean prompt?" in str(refused.value)
    assert "image_ids: 1 of them have no picture" in str(refused.value)
    failed = results.to_pandas().query("status == 'failed'")["image_id"]
    with pytest.raises(Refused, match="have no picture"):
        results.torch(image_ids=failed)
    with pytest.raises(Refused, match="batch_size=0"):
        results.torch(batch_size=0)


def copied(results, folder):
    copy = Store.open(str(folder))
    for entry in results.run.store.list():
        copy.create(entry.path, results.run.store.read(entry.path))
    return copy


def test_a_run_that_is_not_finished_is_what_is_there(results, tmp_path):
    copy = copied(results, tmp_path / "copy")
    state = batchgen.open(copy.url).torch().state_dict()
    gone = results.torch().rows.files[1]
    for path in (SUCCESS, gone.path):
        copy.delete(path)
    data = batchgen.open(copy.url).torch()
    assert len(list(data)) == len(data) == len(SIZES) - gone.count
    with pytest.raises(Refused, match=r"another dataset \(pictures: there"):
        data.load_state_dict(state)


def test_a_file_that_is_gone_is_said(results, tmp_path):
    copy = copied(results, tmp_path / "copy")
    data = batchgen.open(copy.url).torch()
    copy.delete(data.rows.files[1].path)
    with pytest.raises(Infrastructure, match=r"cannot be read .*Run batchgen doctor"):
        list(data)


@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_workers_know_the_node_of_torch_distributed(results, monkeypatch, way):
    """Also those that are not forked, in which torch.distributed has not begun. Begun after the dataset was made."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    data, first = results.torch(["prompt_id"], batch_size=2), results.torch(["prompt_id"], batch_size=2)
    all_names = names(first)
    torch.distributed.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    try:
        found = []
        for batch in DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=way):
            data.mark(batch)
            found += names([batch])
        assert sum(data.state_dict()["taken"]) == len(data) == 4
    finally:
        torch.distributed.destroy_process_group()
    assert sorted(found) == sorted(all_names[-len(found) :])
