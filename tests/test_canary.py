"""Secrets of twenty kinds and more, planted in URLs, the environment, a job file and errors: none is left."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from batchgen import report, words
from batchgen.cli import app
from batchgen.engines.fake import FakeRenderer
from batchgen.errors import Infrastructure, Refused
from batchgen.finalize.card import dataset_card
from batchgen.job.file import job_from
from batchgen.look import contact_page, contact_sheet, doctor, results
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.rendering import worker
from batchgen.rendering.worker import Orders, RenderShard
from batchgen.storage.store import Store
from tests.in_process import call, render_here

KINDS = [  # "{}" is the secret
    "s3://key:{}@bucket/x", "https://{}@host/x", "https://u:a/{}+b@host/x",
    "https://h/x?X-Amz-Credential=a&X-Amz-Signature={}&part=1", "https://h/x?X-Amz-Security-Token={}",
    "https://h/x?X-Goog-Signature={}", "https://h/x?sv=2024&sig={}", "https://h/x?AWSAccessKeyId={}&Expires=1",
    "https://h/x?token={}", "https://h/x?a=b&api_key={}", "https://h/x?apikey={}", "https://h/x?key={}",
    "https://h/x?access_token={}", "https://h/x?password={}", "https://h/x?client-secret={}", "https://h/x?auth={}",
    "AKIA{}", "ASIA{}", "GOOG1{}", "hf_{}", "ghp_{}", "gho_{}", "github_pat_{}", "glpat-{}", "xoxb-{}", "sk-{}",
    "sk-proj-{}", "sk-ant-api03-{}", "AIza{}", "nvapi-{}", "eyJ{0}.eyJ{0}.{0}",
    "Authorization: Bearer {}", "authorization: Basic {}=", "password={}", "DB_PASSWORD: {}", '"client_secret": "{}"',
    "aws_secret_access_key = {}", "AccountName=a;AccountKey={}==;Suffix=b", "api-key: {}", "'token': '{}'",
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
]  # fmt: skip
SECRETS = {kind: f"CANARY{number:02}0123456789ABCDEF" for number, kind in enumerate(KINDS)}
TEXTS = [kind.format(secret) for kind, secret in SECRETS.items()]
URLS = [text if "://" in text else f"https://host/x?token={text}" for text in TEXTS if not {*text} & {*" \n'\""}]
VARIABLES = {
    name: f"CANARYENV{number:02}-hunter/2+correct"
    for number, name in enumerate(["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_API_KEY", "DB_PASSWORD", "GITHUB_TOKEN"])
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_taken_out_of_a_text(kind):
    text = f"Cannot read it: {kind.format(SECRETS[kind])}, said the store. Try again."
    hidden = words.redact(text)
    assert "CANARY" not in hidden
    assert hidden.startswith("Cannot read it: ")
    assert hidden.endswith("said the store. Try again.")
    assert words.redact(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "Basic shapes on a table", "the basics: 3 tokens, max_tokens=77", "token: Unexpected", "s3://bucket/sk-learn-2024-x",
        "https://x.org/a?key=cat&page=2", "key=value", "the secret of the house", "ghp_ and hf_ are prefixes",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "T5 reads 77 tokens of max_sequence_length",
    ],
)  # fmt: skip
def test_plain_words_stay(text):
    assert words.redact(text) == text


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_holds_one_is_refused(url):
    with pytest.raises(Refused, match="holds credentials") as refused:
        Store.open(url)
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize("place", ["input.path", "output.path", "model.mirror", "model.vae", "model.adapters.one.path"])
def test_urls_of_a_job_are_not_shown(tmp_path, place):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a cat"}\n')
    values = {
        "input": {"path": str(tmp_path / "prompts.jsonl")},
        "model": {"preset": "demo" if place.startswith("model") else "fake"},
        "output": {"path": str(tmp_path / "run")},
    }
    *sections, key = place.split(".")
    inner = values
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[key] = "https://host/x.safetensors?token=CANARY"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "job.yaml")])
    assert done.exit_code == 2, done.output
    assert "CANARY" not in done.output
    assert "token=***" in done.output


def everything(folder):
    """Every byte that lies in a folder, and what Parquet has compressed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            columns = {name: table[name].to_pylist() for name in table.column_names if name != "image"}
            yield path, repr((columns, pq.read_schema(path).metadata)).encode()


def test_nothing_is_left_of_them(tmp_path, monkeypatch, capfd):
    said = "; ".join([*TEXTS, *VARIABLES.values()])

    def denoise(self, rows, embeds, prepared=None, usual=FakeRenderer.denoise):
        if any("boom" in row.prompt for row in rows):
            raise RuntimeError(said)
        return usual(self, rows, embeds)

    monkeypatch.setattr(FakeRenderer, "denoise", denoise)
    rows = [json.dumps({"prompt": "a cat"}), json.dumps({"prompt": "boom"})]
    rows += [json.dumps({"prompt": f"cat {number}", "url": url}) for number, url in enumerate(URLS)]
    rows += [json.dumps({"prompt": "dog", "height": text}) for text in TEXTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    values = {
        "input": {"path": str(tmp_path / "prompts.jsonl")},
        "model": {"preset": "fake"},
        "sampling": {"height": 32, "width": 32},
        "output": {"path": str(tmp_path / "run")},
        "errors": {"bad_rows": "skip", "max_failed_fraction": 1.0},
        "cluster": {"address": f"ray://u:{SECRETS['hf_{}']}@host:10001"},
    }
    run = render_here(make_plan(prepare(job_from(values)))[0])
    monkeypatch.setattr(worker, "load_renderer", lambda spec: (_ for _ in ()).throw(Infrastructure(said)))
    receipt = call(RenderShard(Orders(url=run.store.url, plan=run.plans[0].plan, session="again")), 0)
    if receipt.error is None:  # the shard is there, so nothing was loaded
        (tmp_path / "run/data").rename(tmp_path / "moved")
        receipt = call(RenderShard(Orders(url=run.store.url, plan=run.plans[0].plan, session="again")), 0)
        (tmp_path / "moved").rename(tmp_path / "run/data")
    assert "***" in receipt.error
    assert "CANARY" not in repr(receipt)
    contact_page.write(run)
    contact_sheet.write(run)
    console = Console()
    report.print_doctor(console, doctor.examine(run))
    report.print_status(console, status_of(run))
    console.print(dataset_card(run))
    frame = results.Results(run.store.url).to_pandas()
    failed = frame[frame.status == "failed"]
    assert sorted(failed.error_code.unique()) == ["BAD_VALUE", "RENDER_ERROR", "SECRET_IN_URI"]
    assert (failed.error_code == "SECRET_IN_URI").sum() == len(URLS)
    for row in failed.to_dict("records"):
        report.print_image(console, run, row)
    assert "CANARY" not in "".join(capfd.readouterr())
    found = [path.relative_to(tmp_path / "run") for path, data in everything(tmp_path / "run") if b"CANARY" in data]
    assert found == []
