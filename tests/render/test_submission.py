"""`ray job submit` against a head that `ray start --head` started: from the repository, and with the package alone."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
LIMIT = 120


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def head():
    """The address for jobs of a cluster of its own, with this environment's `python` and `batchgen`."""
    gcs, dashboard, agent, client, metrics = free_ports(5)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # its sockets need a short path
        command = [
            RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}", "--num-cpus=3",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}", f"--temp-dir={folder}",
            "--disable-usage-stats",
        ]  # fmt: skip
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        process = subprocess.Popen(
            command, cwd="/", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(dashboard, process)
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            ours = [*psutil.Process(process.pid).children(recursive=True), process]
            for one in ours:  # asked politely, Ray takes half a minute
                one.kill()
            psutil.wait_procs(ours[:-1], timeout=20)
            process.wait(timeout=20)


def wait_for(port, process):
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "ray start ended"
            assert time.monotonic() < deadline, "no dashboard after a minute"
            time.sleep(0.2)


def submit(head, options, *entrypoint):
    command = [RAY, "job", "submit", f"--address={head}", *options, "--", *entrypoint]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as pip installs it, in a folder; its version tells it from the repository's."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "batchgen", source / "batchgen", ignore=shutil.ignore_patterns("__pycache__"))
    text = (source / "batchgen" / "__init__.py").read_text()
    assert '"0.1.0"' in text
    (source / "batchgen" / "__init__.py").write_text(text.replace('"0.1.0"', '"0.1.0+installed"'))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site]
    subprocess.run([*pip, source], check=True, timeout=LIMIT)
    return site


def test_from_the_repository(head, tmp_path):
    """As README says, but for the renderer."""
    out = tmp_path / "run"
    entrypoint = ["python", "jobs/render.py", "jobs/configs/demo.yaml", "--set", "model.preset=fake"]
    code, said = submit(head, ["--working-dir", "."], *entrypoint, "--set", f"output.path={out}")
    assert code == 0, said
    assert "28 planned = 28 images + 0 failed" in said
    assert "succeeded" in said
    assert pq.read_table(out / "metadata")["status"].to_pylist() == ["ok"] * 28


def test_with_an_installed_package_and_no_repository(head, installed, tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "fake:raise"}\n')
    job = tmp_path / "job.yaml"
    sections = {
        "input": {"path": str(tmp_path / "prompts.jsonl")},
        "model": {"preset": "fake"},
        "output": {"path": str(tmp_path / "run")},
    }
    job.write_text(json.dumps(sections))
    options = ["--runtime-env-json", json.dumps({"env_vars": {"PYTHONPATH": str(installed)}})]
    render = f"python -m batchgen render {shlex.quote(str(job))}"
    both = f"{render}; echo the first ended with $?; exec {render} --set output.path=out/run"
    code, said = submit(head, options, "sh", "-c", both)  # one job, because starting one takes ten seconds
    assert "the first ended with 3" in said, said
    assert "1 of 2 images failed (RENDER_ERROR: 1)" in said
    versions = pq.read_table(tmp_path / "run" / "metadata")["versions"].drop_null().to_pylist()
    assert [json.loads(text)["batchgen"] for text in versions] == ["0.1.0+installed"]
    assert (code, "failed with exit code 2" in said) == (1, True), said
    assert "output.path out/run: is relative" in said
