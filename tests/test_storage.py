"""Store on a local disk and in memory, and the words and URLs that it shares with S3 (tests/storage)."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import Refused, StoreRefused
from batchgen.storage.answers import TMP
from batchgen.storage.backends import TMP_SECONDS, Entry
from batchgen.storage.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}/run")


@pytest.fixture
def disk(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "run"))


def temporary_files(store: Store) -> list[str]:
    folder = Path(store.url, TMP)
    return sorted(os.listdir(folder)) if folder.exists() else []


# --- what holds for every store ---


def test_a_file_is_created_once(store: Store) -> None:
    assert store.create("data/sub/a.parquet", b"first")
    assert not store.create("data/sub/a.parquet", b"second")
    assert store.read("data/sub/a.parquet") == b"first"


def test_of_sixteen_racing_writers_one_wins(store: Store) -> None:
    opened = [Store.open(store.url) for _ in range(4)]
    barrier = threading.Barrier(16)

    def write(number: int, path: str) -> bool:
        barrier.wait()
        return opened[number % 4].create(path, b"%d" % number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places inside of fsspec's functions too
    try:
        with ThreadPoolExecutor(16) as pool:
            for shard in range(20):
                won = list(pool.map(write, range(16), [f"data/{shard}"] * 16))
                assert won.count(True) == 1
                assert store.read(f"data/{shard}") == b"%d" % won.index(True)
    finally:
        sys.setswitchinterval(interval)


def test_replace_overwrites_and_delete_removes(store: Store) -> None:
    store.replace("README.md", b"one, which is longer")
    store.replace("README.md", b"two")
    assert store.read("README.md") == b"two"
    store.delete("README.md")
    store.delete("README.md")
    assert store.list() == []


def test_list_is_sorted_relative_and_honest_about_folders(store: Store) -> None:
    for path in ("data/b", "data/a", "data/sub/c", "dataset", "_SUCCESS"):
        store.create(path, b"12345")
    assert store.list("data") == [Entry("data/a", 5), Entry("data/b", 5), Entry("data/sub/c", 5)]
    assert store.list("data", recursive=False) == [Entry("data/a", 5), Entry("data/b", 5)]
    assert [entry.path for entry in store.list(recursive=False)] == ["_SUCCESS", "dataset"]
    assert len(store.list()) == 5
    assert store.list("none") == store.list("none", recursive=False) == store.list("dataset") == []
    assert store.exists("data/a")
    assert not store.exists("data")
    assert store.size("data/a") == 5


def test_a_missing_file_is_not_an_infrastructure_error(store: Store) -> None:
    store.create("file", b"x")
    for path in ("data/none", "file/below"):
        assert not store.exists(path)
        for look in (store.read, store.size, store.open_file):
            with pytest.raises(FileNotFoundError, match=path):
                look(path)


def test_parquet_is_read_by_row_group(store: Store) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": range(100)}), buffer, row_group_size=25)
    store.create("data/a.parquet", buffer.getvalue())
    with store.open_file("data/a.parquet") as file:
        assert pq.ParquetFile(file).read_row_group(2)["id"].to_pylist() == list(range(50, 75))


def test_an_open_file_behaves_like_a_file(store: Store) -> None:
    store.create("a", b"0123456789")
    with store.open_file("a") as file:
        assert file.seekable()
        assert (file.read(3), file.tell()) == (b"012", 3)
        assert (file.seek(-2, os.SEEK_END), file.read(), file.read()) == (8, b"89", b"")
        assert (file.seek(2), file.seek(2, os.SEEK_CUR), file.read(2)) == (2, 4, b"45")


def test_a_store_can_be_pickled_after_use(store: Store) -> None:
    store.create("a", b"x")
    again = pickle.loads(pickle.dumps(store))
    assert (again.url, again.protocol, again.patience) == (store.url, store.protocol, store.patience)
    assert again.read("a") == b"x"


def test_probe_accepts_a_good_place_and_leaves_nothing(store: Store) -> None:
    store.probe()
    assert store.list() == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "data/../../a"])
def test_no_path_leaves_the_store(store: Store, path: str) -> None:
    for call in (store.read, store.list, store.delete, lambda path: store.create(path, b"x")):
        with pytest.raises(ValueError, match="not a path below the store"):
            call(path)


# --- local disks ---


def test_the_bytes_are_durable_before_the_name(disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives a power cut: file, name, folder."""
    calls = []
    for name in ("fsync", "link"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, n=name, call=original: (calls.append(n), call(*args))[1])
    Path(disk.url, "data").mkdir(parents=True)
    Path(disk.url, TMP).mkdir(parents=True)
    disk.create("data/a", b"x")
    assert calls == ["fsync", "link", "fsync"]


def test_an_error_before_the_name_publishes_nothing(disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    disk.create("data/a", b"x")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(StoreRefused, match="disk is full"):
            disk.create("data/b", b"x")
    assert disk.list() == [Entry("data/a", 1)]
    assert temporary_files(disk) == []


def test_a_busy_disk_is_asked_again(disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(116, "Stale file handle"), OSError(5, "Input/output error")]
    original = os.link

    def link(*paths: str) -> None:
        if failures:
            raise failures.pop()
        original(*paths)

    monkeypatch.setattr(os, "link", link)
    assert disk.create("data/a", b"x")
    assert not failures


def test_a_killed_writer_leaves_nothing_to_be_seen(disk: Store) -> None:
    code = f"from batchgen.storage.store import Store; Store.open({disk.url!r}).create('data/a', bytes(1_500_000_000))"
    writer = subprocess.Popen([sys.executable, "-c", code])
    try:
        give_up = time.monotonic() + 120
        while not temporary_files(disk) and time.monotonic() < give_up:
            time.sleep(0.002)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(temporary_files(disk)) == 1, "it was to be killed while it wrote"
    assert disk.list() == disk.list("data") == disk.list(".batchgen") == []
    assert disk.create("data/a", b"x")


def test_probe_sweeps_old_leftovers_only(disk: Store) -> None:
    folder = Path(disk.url, TMP)
    folder.mkdir(parents=True)
    for name, age in (("old", TMP_SECONDS + 60), ("young", TMP_SECONDS - 60)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age,) * 2)
    disk.probe()
    assert temporary_files(disk) == ["young"]


@pytest.mark.parametrize("write", ["create", "replace"])
def test_a_folder_that_another_planner_takes_back_is_made_again(
    disk: Store, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """A planner that was refused removes the folders that it made, empty as they are, under one that goes on."""
    other = Store.open(disk.url)
    other.probe()
    refused = iter([True] * 3)

    def sync(handle: int) -> None:
        if next(refused, False):  # after the folders were made, before there is a file in them
            shutil.rmtree(disk.url)

    monkeypatch.setattr(os, "fsync", sync)
    getattr(disk, write)(".batchgen/plan/x/rows.parquet", b"x")
    assert disk.read(".batchgen/plan/x/rows.parquet") == b"x"


def test_links_are_followed_and_never_replaced(disk: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path(disk.url).mkdir()
    Path(disk.url, "data").symlink_to(tmp_path / "elsewhere")
    assert disk.create("data/a", b"x")
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"x"
    assert disk.list("data") == [Entry("data/a", 1)]
    Path(disk.url, "data", "dangling").symlink_to(tmp_path / "nowhere")
    assert not disk.create("data/dangling", b"x")
    assert not disk.exists("data/dangling")
    assert not (tmp_path / "nowhere").exists()


def test_a_link_to_its_own_parent_ends(disk: Store) -> None:
    disk.create("data/a", b"x")
    Path(disk.url, "data", "loop").symlink_to(Path(disk.url))
    assert disk.list() == [Entry("data/a", 1)]


def test_data_on_another_disk_is_explained(disk: Store) -> None:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(os.path.dirname(disk.url)).st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    Path(disk.url).mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        Path(disk.url, "data").symlink_to(other)
        with pytest.raises(StoreRefused, match="Put both on one disk"):
            disk.create("data/a", b"x")


def test_a_file_where_a_folder_should_be(disk: Store) -> None:
    """Not to be taken for 'somebody was faster'."""
    disk.create("data", b"a file")
    with pytest.raises(StoreRefused, match="a file, not a folder"):
        disk.create("data/a", b"x")
    with pytest.raises(StoreRefused, match="a file, not a folder"):
        disk.create("data/sub/a", b"x")
    with pytest.raises(StoreRefused, match="it is a folder"):
        disk.read(".batchgen")


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may write anywhere: without its rights, as a user would run."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        os.chmod(folder, 0o555)
        store = Store.open(f"{folder}/run")
        with nobody():
            with pytest.raises(Refused, match="permission denied"):
                store.probe()
            with pytest.raises(StoreRefused, match=r"permission denied.*choose another folder"):
                store.create("data/a", b"x")


def test_a_file_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "prompts.parquet")
        path.write_bytes(b"x")
        path.chmod(0)
        with nobody(), pytest.raises(StoreRefused, match="permission denied"):
            Store.open(folder).open_file("prompts.parquet")


def test_a_file_that_is_too_large(disk: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreRefused, match="ulimit -f"):
            disk.create("data/a", bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert disk.list() == []
    assert temporary_files(disk) == []


@pytest.mark.parametrize("options", ["size=64k", "size=64k,ro"], ids=["full", "read-only"])
def test_a_disk_that_is_full_or_read_only(tmp_path: Path, options: str) -> None:
    """A small file system in a mount namespace of its own, where the machine allows that."""
    code = f"""
from batchgen.errors import Refused, StoreRefused
from batchgen.storage.store import Store
store = Store.open({str(tmp_path / "run")!r})
try:
    store.create("data/a", bytes(1_000_000))
except StoreRefused as error:
    print(error)
print(store.list(), store.list(".batchgen"))
try:
    store.probe()
except Refused as error:
    print(error)
"""
    script = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", str(tmp_path), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    if "ro" in options:
        assert done.stdout.count("the file system is read-only") == 2
    else:
        assert "the disk is full. Free some space" in done.stdout
        assert "\n[] []\n" in done.stdout
