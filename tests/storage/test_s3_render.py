"""A whole run on S3, by the real command: manifest, weights, plan, data and metadata, resumed and proven there."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import batchgen
from batchgen.cli import app
from batchgen.errors import Refused
from batchgen.job import Model
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.look import doctor
from batchgen.look.status import status_of
from batchgen.run.directory import Run
from batchgen.run.layout import data_path
from batchgen.storage.mirror import mirror
from batchgen.storage.store import Store
from batchgen.weights.locate import locate
from batchgen.weights.parts import Sd3Parts


def test_a_run_on_s3_is_planned_rendered_resumed_and_proven(s3_url, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store.open(s3_url)
    for file in DEMO_CHECKPOINT.rglob("*"):
        if file.is_file():
            store.create(f"model/{file.relative_to(DEMO_CHECKPOINT).as_posix()}", file.read_bytes())
    store.create("model/transformer/run_me.py", b"raise SystemExit")
    rows = [{"prompt": f"prompt {i}", "num_images_per_prompt": 2} for i in range(6)]
    store.create("in/prompts.jsonl", "\n".join(map(json.dumps, rows)).encode())
    job = tmp_path / "job.yaml"
    job.write_text(
        f"input: {{path: '{s3_url}/in/*.jsonl'}}\n"
        f"model: {{preset: demo, mirror: '{s3_url}/model', batch_size: 4}}\n"
        "sampling: {height: 64, width: 64, num_inference_steps: 2}\n"
        f"output: {{path: '{s3_url}/run', images_per_shard: 4}}\n"
    )
    command = [sys.executable, "-m", "batchgen", "render", str(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 planned = 12 images + 0 failed" in done.stdout
    run = Run.open(Store.open(f"{s3_url}/run"))
    assert doctor.examine(run).problems == []
    assert status_of(run).complete
    model = run.plans[0].model
    assert (model.path, model.digest) == (f"{s3_url}/model", locate(Model(preset="demo")).digest)
    assert len(list((tmp_path / "cache" / "batchgen" / "models").glob("*/model_index.json"))) == 1
    assert list((tmp_path / "cache").rglob("run_me.py")) == [], "code is never fetched"
    with run.store.open_file(data_path(0)) as opened:
        assert len(pq.read_table(opened)) == 4
    with pytest.raises(Refused, match="HF_HUB_OFFLINE keeps the datasets library from reading"):
        batchgen.open(str(run.store)).dataset()
    run.store.delete(data_path(1))
    assert any("is missing" in problem for problem in doctor.examine(run).problems)
    again = CliRunner().invoke(app, ["render", str(job), "--set", "model.dtype=float16"])
    assert (again.exit_code, "model.dtype: there" in " ".join(again.output.split())) == (4, True)


def test_a_model_on_s3_is_copied_once_and_again_when_it_changes(s3_url, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = Store.open(f"{s3_url}/model")
    with pytest.raises(Refused, match="holds no model"):
        mirror(store.url, Sd3Parts().is_kept)
    store.create("model_index.json", b"{}")
    store.create("vae/config.json", b"1")
    first = mirror(store.url, Sd3Parts().is_kept)
    (first / "vae" / "config.json").write_text("as it was")
    assert mirror(store.url, Sd3Parts().is_kept) == first
    assert (first / "vae" / "config.json").read_text() == "as it was", "nothing was fetched"
    store.replace("vae/config.json", b"2")
    second = mirror(store.url, Sd3Parts().is_kept)
    assert second != first
    assert (second / "vae" / "config.json").read_bytes() == b"2"
