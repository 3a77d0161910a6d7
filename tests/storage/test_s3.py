"""Store on a real S3 server that checks signatures and conditions, with and without faults on the way."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import Infrastructure, Refused, StoreRefused
from batchgen.storage.backends import Entry
from batchgen.storage.store import Store
from tests.seaweed import KEY, SECRET, Seaweed, free_ports
from tests.storage.faultproxy import Faults


def at_once(count: int, call) -> list:
    """The results of call(0) … call(count - 1), started together in threads of their own."""
    barrier = threading.Barrier(count)

    def run(number: int):
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_a_file_is_created_once(store: Store, seaweed: Seaweed) -> None:
    assert store.create("data/a.parquet", b"first")
    assert not store.create("data/a.parquet", b"second")
    assert store.read("data/a.parquet") == b"first"
    assert seaweed.keys(store.url) == ["data/a.parquet"]


def test_replace_overwrites_and_delete_removes(store: Store, seaweed: Seaweed) -> None:
    store.replace("README.md", b"one")
    store.replace("README.md", b"two")
    assert store.read("README.md") == b"two"
    store.delete("README.md")
    store.delete("README.md")
    assert seaweed.keys(store.url) == []


def test_of_sixteen_racing_writers_one_wins(s3_url: str) -> None:
    stores = [Store.open(s3_url) for _ in range(4)]
    # One round: SeaweedFS makes losers wait for seconds.
    won = at_once(16, lambda number: stores[number % 4].create("data/a", b"%d" % number))
    assert won.count(True) == 1
    assert stores[0].read("data/a") == b"%d" % won.index(True)


def test_eight_threads_share_one_store(store: Store) -> None:
    def work(number: int) -> list[bytes]:
        for index in range(10):
            assert store.create(f"data/{number}-{index}", b"%d-%d" % (number, index))
        return [store.read(f"data/{number}-{index}") for index in range(10)]

    assert at_once(8, work) == [[b"%d-%d" % (number, index) for index in range(10)] for number in range(8)]
    assert len(store.list("data")) == 80


def test_a_missing_file_is_not_an_infrastructure_error(store: Store) -> None:
    assert not store.exists("data/none")
    for look in (store.read, store.size, store.open_file):
        with pytest.raises(FileNotFoundError, match=r"run/data/none"):
            look("data/none")


def test_list_is_sorted_relative_and_honest_about_folders(store: Store) -> None:
    for path in ("data/b", "data/a", "data/sub/c", "dataset", "_SUCCESS"):
        store.create(path, b"12345")
    assert store.list("data") == [Entry("data/a", 5), Entry("data/b", 5), Entry("data/sub/c", 5)]
    assert store.list("data", recursive=False) == [Entry("data/a", 5), Entry("data/b", 5)]
    assert [entry.path for entry in store.list(recursive=False)] == ["_SUCCESS", "dataset"]
    assert len(store.list()) == 5
    assert store.list("none") == store.list("none", recursive=False) == []
    assert not store.exists("data")


def test_list_turns_pages_and_sees_what_came_since(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda number: store.create(f"data/{number:04}", b"x"), range(1005)))
    expected = [f"data/{number:04}" for number in range(1005)]
    assert [entry.path for entry in store.list("data")] == expected
    assert [entry.path for entry in store.list("data", recursive=False)] == expected
    Store.open(store.url).create("data/later", b"x")
    assert len(store.list("data")) == len(store.list("data", recursive=False)) == 1006


def test_a_store_travels_to_another_process(s3_url: str) -> None:
    """With the environment alone: what is pickled holds no secret."""
    store = Store.open(s3_url)
    store.create("here", b"1")
    pickled = pickle.dumps(store)
    assert SECRET.encode() not in pickled
    assert KEY.encode() not in pickled
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).create('there', b'2'))"
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
    assert done.stdout == b"True\n"
    assert store.read("there") == b"2"


def test_a_store_survives_a_fork(s3_url: str) -> None:
    """In a process of its own: a fork of the test process would take its threads' locks with it."""
    code = f"""
import os
from batchgen.storage.store import Store
store = Store.open({s3_url!r})
store.create("parent", b"1")
if (child := os.fork()) == 0:
    os._exit(0 if store.read("parent") == b"1" and store.create("child", b"2") else 1)
assert os.waitpid(child, 0)[1] == 0
assert store.read("child") == b"2"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- who may write, and where ---


def test_probe_accepts_the_server_and_leaves_nothing(store: Store, seaweed: Seaweed) -> None:
    store.probe()
    assert seaweed.keys(store.url) == []


def test_a_wrong_secret_is_refused_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + SECRET)
    began = time.monotonic()
    with pytest.raises(StoreRefused, match="the secret does not belong to the key AKIA…01") as refused:
        store.create("data/a", b"x")
    with pytest.raises(Refused, match="the secret does not belong"):
        store.probe()
    with pytest.raises(StoreRefused, match=r"access denied for the key AKIA…01.*s3:PutObject"):
        store.exists("data/a")  # HEAD has no body that could say more
    assert time.monotonic() - began < 10
    assert SECRET not in str(refused.value)


def test_after_a_refusal_new_credentials_are_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StoreRefused):
            store.create("data/a", b"x")
    assert store.create("data/a", b"x")


def test_an_unknown_key_is_named_without_being_shown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWNUNKNOWN00")
    with pytest.raises(StoreRefused, match="does not know the key AKIA…00") as refused:
        store.create("data/a", b"x")
    assert "UNKNOWN" not in str(refused.value)


def test_no_credentials_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Refused, match=r"no credentials\. Set AWS_ACCESS_KEY_ID"):
        store.probe()


def test_a_missing_bucket_is_said_by_every_operation(s3_environment: Seaweed) -> None:
    """Writing is tested through the proxy below: SeaweedFS makes the bucket, which probe() must not let happen."""
    store = Store.open("s3://no-such-bucket-of-anybody/run")
    for call in (lambda: store.read("a"), store.list, lambda: store.list("", False)):
        with pytest.raises(StoreRefused, match="bucket does not exist"):
            call()
    with pytest.raises(Refused, match="bucket does not exist"):
        store.probe()
    client = s3_environment.client()
    assert "no-such-bucket-of-anybody" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    client.close()


# --- Parquet ---


def table_of(rows: int) -> bytes:
    """Four row groups of about 1 MB each."""
    buffer = io.BytesIO()
    table = pa.table({"id": range(rows), "bytes": [os.urandom(1000) for _ in range(rows)]})
    pq.write_table(table, buffer, row_group_size=rows // 4, compression="none")
    return buffer.getvalue()


def test_parquet_reads_only_the_row_group_it_wants(store: Store, faults: Faults) -> None:
    data = table_of(4000)
    store.create("data/a.parquet", data)
    faults.seen.clear()
    with store.open_file("data/a.parquet") as file:
        found = pq.ParquetFile(file).read_row_group(2)
    assert found["id"].to_pylist() == list(range(2000, 3000))
    fetched = sum(size for method, _, size in faults.seen if method == "GET")
    assert len(data) // 5 < fetched < len(data) // 2
    assert len(faults.seen) < 10
    assert pq.read_table(store.open_file("data/a.parquet")).num_rows == 4000


def test_a_range_read_is_tried_again(store: Store, faults: Faults) -> None:
    store.create("data/a.parquet", table_of(400))
    file = pq.ParquetFile(store.open_file("data/a.parquet"))
    faults.plan("GET", "slow_down", "cut_reply", "reset")
    assert file.read_row_group(1)["id"].to_pylist() == list(range(100, 200))
    assert not faults.planned


# --- faults on the way ---


def test_a_lost_acknowledgement_leaves_our_bytes(store: Store, faults: Faults) -> None:
    """False is the right answer here, and the reason why callers must look inside."""
    faults.plan("PUT", "lost_reply")
    assert store.create("data/a", b"ours") is False
    assert store.read("data/a") == b"ours"
    assert not faults.planned


@pytest.mark.parametrize("fault", ["slow_down", "internal", "conflict", "reset", "close"])
def test_a_busy_store_is_asked_again(store: Store, faults: Faults, fault: str) -> None:
    store.create("warm", b"x")
    faults.seen.clear()
    faults.plan("PUT", fault, fault)
    assert store.create("data/a", b"ours") is True
    assert not faults.planned
    assert store.read("data/a") == b"ours"


@pytest.mark.parametrize("fault", ["slow_down", "reset", "cut_reply"])
def test_reading_and_listing_are_tried_again(store: Store, faults: Faults, fault: str) -> None:
    store.create("data/a", b"0123456789" * 1000)
    faults.plan("GET", fault, fault)
    assert store.read("data/a") == b"0123456789" * 1000
    faults.plan("GET", fault, fault)
    assert store.list("data") == [Entry("data/a", 10_000)]
    faults.plan("GET", fault, fault)
    assert store.list("data", recursive=False) == [Entry("data/a", 10_000)]
    assert not faults.planned


@pytest.mark.parametrize("recursive", [True, False])
def test_a_listing_that_fails_is_never_empty(s3_url: str, faults: Faults, recursive: bool) -> None:
    """An empty listing would mean: render everything again."""
    faults.plan("GET", *["slow_down"] * 100)
    with pytest.raises(Infrastructure, match="Cannot list"):
        Store.open(s3_url, patience=0.5).list("data", recursive)


def test_one_try_is_one_request(s3_url: str, faults: Faults) -> None:
    """Retries of the libraries below would multiply with ours."""
    store = Store.open(s3_url, patience=0)
    faults.plan("PUT", "slow_down", "slow_down")
    with pytest.raises(Infrastructure, match="1 tries in 0 s"):
        store.create("data/a", b"x")
    assert len(faults.planned) == 1


def test_when_patience_ends_the_message_says_what_to_do(s3_url: str, faults: Faults, seaweed: Seaweed) -> None:
    faults.plan("PUT", *["internal"] * 100)
    with pytest.raises(Infrastructure, match=r"InternalError.*run the same command again") as ended:
        Store.open(s3_url, patience=4).create("data/a", b"x")  # a first request can take a second on a busy machine
    assert not isinstance(ended.value, StoreRefused)
    assert 2 <= 100 - len(faults.planned) < 40  # it waited between tries
    assert seaweed.keys(s3_url) == []


WILL_NOT_CHANGE = [
    ("expired", "have expired"),
    ("denied", "access denied"),
    ("no_bucket", "bucket does not exist"),
]


@pytest.mark.parametrize(("fault", "says"), WILL_NOT_CHANGE)
def test_what_will_not_change_is_not_tried_again(store: Store, faults: Faults, fault: str, says: str) -> None:
    faults.plan("PUT", fault, fault)
    with pytest.raises(StoreRefused, match=says):
        store.create("data/a", b"x")
    assert len(faults.planned) == 1


def test_a_store_that_is_away(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    store = Store.open(s3_url, patience=1)
    for call in (lambda: store.create("a", b"x"), lambda: store.read("a"), lambda: store.list("data"), store.probe):
        with pytest.raises(Infrastructure, match="Check that the store is reachable") as away:
            call()
        assert not isinstance(away.value, StoreRefused)


def test_probe_finds_a_store_that_ignores_the_condition(store: Store, faults: Faults) -> None:
    store.create("warm", b"x")
    faults.seen.clear()
    faults.plan("PUT", "pass", "claim")
    with pytest.raises(Refused, match="ignores 'If-None-Match"):
        store.probe()
    assert not faults.planned


def test_a_shard_is_one_put(store: Store, faults: Faults) -> None:
    """s3fs makes a multipart upload of anything above 100 MB, and not every store checks the condition of those."""
    data = bytes(110_000_000)
    assert store.create("data/a", data)
    store.replace("data/b", data)
    assert [(method, path.partition("?")[2]) for method, path, _ in faults.seen] == [("PUT", "")] * 2
    assert store.size("data/a") == len(data)
