"""Fixtures of the catalogue: a case is a manifest and what must be answered, under both policies for bad rows."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from batchgen import session
from batchgen.cli import app
from batchgen.plan import graph
from tests.mistakes.outcome import look, one_by_one, write

POLICIES = ("refuse", "skip")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    monkeypatch.setattr(graph, "expanded_on_ray", one_by_one)
    monkeypatch.setattr(session, "render_rest", None)  # a mistake that is not found fails here, and at once


@pytest.fixture
def put(tmp_path):
    """put(content, name) writes a file into the folder of prompts and returns its path."""
    return lambda content, name="prompts.jsonl", **options: write(tmp_path / "in" / name, content, **options)


@pytest.fixture
def job(tmp_path):
    """job(path, **sections): what stands in a job file, on the fake renderer, with output in `run`."""

    def values(path, bad_rows="refuse", **sections):
        found = {
            "input": {"path": str(path)},
            "model": {"preset": "fake"},
            "output": {"path": str(tmp_path / "run")},
            "errors": {"bad_rows": bad_rows},
        }
        return {name: {**found.get(name, {}), **sections.get(name, {})} for name in {*found, *sections}}

    return values


@pytest.fixture
def outcome(job, tmp_path):
    """outcome(path, bad_rows, **sections): what is accepted, skipped or refused. Nothing is ever written."""

    def run(path, bad_rows="refuse", between=lambda: None, **sections):
        found = look(job(path, bad_rows, **sections), between)
        assert not (tmp_path / "run").exists()
        return found

    return run


@pytest.fixture
def accepted(outcome):
    """accepted(path, **sections): the outcome, which is no refusal and skips nothing, under both policies."""

    def check(path, **sections):
        found = [outcome(path, policy, **sections) for policy in POLICIES]
        for one in found:
            assert one.refusal is None, one.refusal
            assert one.skipped == []
        assert repr(found[0].images) == repr(found[1].images)  # NaN is not equal to itself
        return found[0]

    return check


@pytest.fixture
def refused(outcome):
    """refused(path, *says, where=..., **sections): one problem, there, under both policies: no row is at fault."""

    def check(path, *says, where="", **sections):
        for policy in POLICIES:
            found = outcome(path, policy, **sections)
            assert found.refusal, "accepted"
            assert len(found.problems) == 1, found.refusal
            assert where in found.problems[0].where, found.refusal
            for text in says:
                assert text in str(found.refusal), found.refusal
        return found.problems[0]

    return check


@pytest.fixture
def bad_row(put, outcome):
    """bad_row(row, code, *says): between two good rows, it alone is refused, or skipped; both say where and why.

    With `table`, the manifest is that table of three rows, and the one in the middle is bad.
    """

    def check(row, code, *says, table=None, name="", **sections):
        good = {"prompt": "a cat"}
        name = name or ("prompts.jsonl" if table is None else "prompts.parquet")
        path = put([good, row, good] if table is None else table, name)
        bad = 3 if name.endswith(("csv", "tsv")) else 2  # below a header
        place = f"{name}, {'row' if name.endswith('parquet') else 'line'} {bad}"
        stopped, skipping = (outcome(path, policy, **sections) for policy in POLICIES)
        assert [(problem.where, problem.code) for problem in stopped.problems] == [(place, code)], stopped.refusal
        assert skipping.refusal is None, skipping.refusal
        assert [(row["where"], row["skip_code"]) for row in skipping.skipped] == [(place, code)]
        assert [image["prompt_row"] for image in skipping.images] == [bad - 1, bad + 1]
        for said in (stopped.problems[0].message, skipping.skipped[0]["skip_message"]):
            for text in says:
                assert text in said, said
        return skipping

    return check


@pytest.fixture
def command(tmp_path):
    """command(values, *says): `batchgen render` ends with 2, says this, shows no traceback, and writes nothing."""

    def run(values, *says):
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(values))
        before = sorted(path for path in tmp_path.rglob("*"))
        done = CliRunner().invoke(app, ["render", str(tmp_path / "job.yaml")])
        assert isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == 2, done.output
        for text in says:
            assert text in done.output, done.output
        assert sorted(path for path in tmp_path.rglob("*")) == before
        return done.output

    return run
