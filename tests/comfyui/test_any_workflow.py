"""Workflows with anything wrong in them: a job that loads, or one message. Never another error."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from batchgen.comfyui import reading, workflow, writing
from batchgen.errors import Refused
from batchgen.job.file import job_from
from tests.comfyui.conftest import WORKFLOWS

TEXTS = [path.read_text() for path in sorted(WORKFLOWS.iterdir())]
ODD = [None, True, 0, -1, 1e308, 1.5, 10**30, "", "x", [], {}, ["3", 0], ["3", 7], [1, 2], "\ud800", "a\x00", [[1]]]


def places_in(value):
    """(container, key) of everything in nested JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places_in(inner)


@st.composite
def damaged(draw):
    """A sample workflow in which one to three values are odd, gone, or another of its values."""
    content = json.loads(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_in(content))
        container, key = places[draw(st.integers(0, len(places) - 1))]
        other, name = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.sampled_from(("odd", "gone", "other")))
        if how == "gone":
            del container[key]
        else:
            container[key] = draw(st.sampled_from(ODD)) if how == "odd" else json.loads(json.dumps(other[name]))
    return content


@given(damaged())
def test_any_workflow_is_a_job_or_a_refusal(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_text(json.dumps(content))
    try:
        imported = reading.read(workflow.load(path))
    except Refused:
        return
    job = job_from(yaml.safe_load(writing.job_text(imported, path.name, "prompts.jsonl", "out/run")))
    assert job.sampling.max_sequence_length == 77
    assert all(json.dumps(row, ensure_ascii=False).encode() for row in imported.rows)
