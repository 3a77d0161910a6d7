"""Mistakes 3 and 71 where they concern a bucket, on a real server: said at once, with the key by its ends only."""

from __future__ import annotations

import pytest

from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.storage.store import Store
from tests.mistakes.outcome import look, write
from tests.seaweed import SECRET


def job(path, out):
    return {"input": {"path": str(path)}, "model": {"preset": "fake"}, "output": {"path": str(out)}}


def test_03_a_manifest_that_the_key_does_not_open(s3_url, tmp_path, monkeypatch):
    Store.open(s3_url).create("prompts.jsonl", b'{"prompt": "x"}\n')
    assert len(look(job(f"{s3_url}/prompts.jsonl", tmp_path / "run")).images) == 1
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + SECRET)
    for path in (f"{s3_url}/prompts.jsonl", f"{s3_url}/*.jsonl", s3_url):
        [problem] = look(job(path, tmp_path / "run")).problems
        assert "the key AKIA…01" in problem.message
        assert SECRET not in str(problem)


def test_71_a_bucket_that_is_not_there(s3_environment, tmp_path):
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": "x"}])
    with pytest.raises(Refused, match=r"the bucket does not exist\. Create it, or correct the URL"):
        make_plan(prepare(job_from(job(prompts, "s3://no-such-bucket-of-anybody/run"))))
