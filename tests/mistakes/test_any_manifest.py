"""What holds for every manifest there can be: it is refused or accounted for, row by row, and torch is not loaded."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.columns import MANIFEST
from batchgen.plan import graph
from tests.mistakes.outcome import look, one_by_one, write
from tests.test_manifest_properties import GOOD, JUNK, LINES, OBJECTS, QUICK, TEXT, tables

CELLS = TEXT | st.sampled_from(["7", "-1", "1e3", "nan", "64", "512x512", "16:9", '"', "\ud800", ",", "\n"])
NAMES = st.lists(st.sampled_from([*MANIFEST, "note", "", "image_id"]), max_size=4)


@st.composite
def delimited(draw):
    """CSV as programs write it, and as accidents make it."""
    names = ["prompt", *draw(NAMES)] if draw(st.integers(0, 9)) else draw(NAMES)
    width = st.integers(len(names), len(names)) | st.integers(0, len(names) + 1)
    cells = st.lists(st.sampled_from(["a cat", "a dog"]) | CELLS, min_size=len(names) + 1, max_size=len(names) + 1)
    rows = draw(st.lists(st.tuples(cells, width).map(lambda pair: pair[0][: pair[1]]), max_size=6))
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])))
    writer.writerows([names, *rows])
    return text.getvalue().encode("utf-8", "surrogatepass") + draw(st.binary(max_size=4))


def account(content, name, **sections):
    """One manifest, all the way, under both policies. Only a refusal may come instead of numbers that add up."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / name, content)
        job = {"input": {"path": str(path)}, "model": {"preset": "fake"}, "output": {"path": f"{folder}/run"}}
        found = {policy: look(job | {"errors": {"bad_rows": policy}} | sections) for policy in ("refuse", "skip")}
        assert not Path(folder, "run").exists()
    refused, skipping = found["refuse"], found["skip"]
    assert all(str(problem).strip() and problem.where.isprintable() for problem in refused.problems)
    if skipping.refusal:  # not a row's fault, so that `refuse` says at least as much
        assert refused.refusal
        assert set(skipping.problems) <= set(refused.problems) or refused.refusal.total > 100
        return
    accepted = {row["prompt_row"] for row in skipping.images}
    left_out = [row["prompt_row"] for row in skipping.skipped]
    assert len({*accepted, *left_out}) == len(accepted) + len(left_out) == skipping.prepared.sources.rows
    assert skipping.summary.prompts == skipping.prepared.sources.rows
    if left_out:
        places = [(problem.where, problem.code, problem.message) for problem in refused.problems]
        assert places == [(row["where"], row["skip_code"], row["skip_message"]) for row in skipping.skipped]
    else:
        assert [row["image_id"] for row in refused.images] == [row["image_id"] for row in skipping.images]


@pytest.fixture(autouse=True, scope="module")
def no_ray_for_any_example():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "expanded_on_ray", one_by_one)
        yield


@QUICK
@given(table=tables())
def test_any_parquet(table):
    account(table, "a.parquet")


@QUICK
@given(lines=LINES)
def test_any_jsonl(lines):
    account([line.encode("utf-8", "surrogatepass") for line in lines], "a.jsonl")


@QUICK
@given(content=delimited())
def test_any_csv(content):
    account(content, "a.csv")


@QUICK
@given(lines=st.lists(JUNK | GOOD.map(json.dumps) | OBJECTS.map(json.dumps), max_size=5), data=st.binary(max_size=20))
def test_any_bytes_under_any_name(lines, data):
    content = "\n".join(lines).encode("utf-8", "surrogatepass") + data
    for name in ("a.parquet", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz"):
        account(content, name)


def test_no_manifest_loads_torch_or_ray(tmp_path):
    """In a process of its own, through good rows, bad rows and files that cannot be read."""
    contents = {
        "a.parquet": {"prompt": ["a cat", None], "seed": [1, -1]},
        "b.jsonl": [{"prompt": "a cat " * 100}, {"prompt": 3}, "nonsense"],
        "c.csv": 'prompt,height\na cat,64\n"b,\n',
        "d.parquet": b"PAR1",
    }
    for name, content in contents.items():
        write(tmp_path / name, content)
    script = f"""
import sys
from tests.mistakes.outcome import look
for name in {list(contents)!r}:
    for policy in ("refuse", "skip"):
        job = {{"input": {{"path": f"{tmp_path}/{{name}}"}}, "output": {{"path": "{tmp_path}/run"}}}}
        found = look(job | {{"model": {{"preset": "fake"}}, "errors": {{"bad_rows": policy}}}})
        print(name, policy, len(found.images), len(found.skipped), len(found.problems))
print([name for name in ("torch", "ray", "diffusers") if name in sys.modules])
"""
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.splitlines() == [
        "a.parquet refuse 0 0 1",
        "a.parquet skip 1 1 0",
        "b.jsonl refuse 0 0 2",
        "b.jsonl skip 1 2 0",
        "c.csv refuse 0 0 2",
        "c.csv skip 0 2 0",
        "d.parquet refuse 0 0 1",
        "d.parquet skip 0 0 1",
        "[]",
    ]
