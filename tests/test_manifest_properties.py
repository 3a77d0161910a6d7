"""What must hold for every manifest, however odd: nothing raises, nothing is lost, order names nothing."""

import json
import sys
import tempfile
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen import schema
from batchgen.columns import MANIFEST
from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.manifest.sources import find_sources
from batchgen.manifest.values import read_rows
from batchgen.rows.expand import expand_in_parts
from batchgen.rows.expansion import Expansion
from batchgen.rows.tokens import TokenCounter
from tests.specs import files_of

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def counter():
    return TokenCounter.load(DEMO_CHECKPOINT)


TEXT = st.text(max_size=20) | st.sampled_from(["a cat", "", " ", "\x00", "16:9", "x" * 20_001, "🙂", "1e9"])
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 512, 1024, 2**63 - 1])
FLOAT = st.floats(width=64) | st.sampled_from([4.5, 512.0, 2.0**53, 1e300])
KINDS = {
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.dictionary(pa.int32(), pa.string()): TEXT,
    pa.int64(): INT64,
    pa.int8(): st.integers(-128, 127),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): FLOAT,
    pa.float32(): st.floats(width=32),
    pa.float16(): st.floats(width=16),
    pa.bool_(): st.booleans(),
    pa.null(): st.none(),
    pa.binary(): st.binary(max_size=8),
    pa.list_(pa.string()): st.lists(TEXT, max_size=3),
    pa.list_(pa.int64()): st.lists(INT64, max_size=3),
    pa.list_(pa.timestamp("us", "Europe/Berlin")): st.lists(st.datetimes(), max_size=2),
    pa.map_(pa.string(), pa.float64()): st.lists(st.tuples(st.text(max_size=3), FLOAT), max_size=2),
    pa.struct([("a", pa.int64()), ("b", pa.string())]): st.fixed_dictionaries({"a": INT64, "b": TEXT}),
    pa.decimal128(9, 2): st.decimals(-1000, 1000, places=2).map(Decimal),
    pa.date32(): st.dates().map(lambda d: date(d.year, d.month, d.day)),
    pa.timestamp("ns"): st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)),
    pa.timestamp("us", "UTC"): st.datetimes(),
    pa.time32("ms"): st.times().map(lambda t: t.replace(microsecond=0)),
    pa.duration("us"): st.timedeltas(timedelta(-1000), timedelta(1000)),
}  # fmt: skip
# What the columns should hold, so that rows are accepted often enough.
LIKELY = {
    "prompt": (pa.string(), TEXT),
    "height": (pa.int64(), st.sampled_from([512, 1024, 513])),
    "width": (pa.int64(), st.sampled_from([512, 1024])),
    "seed": (pa.int64(), st.integers(0, 2**63 - 1)),
    "num_images_per_prompt": (pa.int64(), st.integers(0, 4)),
    "num_inference_steps": (pa.int64(), st.integers(0, 30)),
}


@st.composite
def columns(draw, name, size):
    kind, values = draw(st.sampled_from([*KINDS.items()]))
    if name in LIKELY and draw(st.integers(0, 3)):
        kind, values = LIKELY[name]
    cells = draw(st.lists(st.none() | values, min_size=size, max_size=size))
    if pa.types.is_dictionary(kind):
        return pa.array(cells, kind.value_type).dictionary_encode()
    return pa.array(cells, kind)


@st.composite
def tables(draw):
    size = draw(st.integers(1, 6))
    names = draw(st.sets(st.sampled_from([*MANIFEST, "note", "score", "a.b", "Ünïcode name", ""]), max_size=6))
    return pa.table({name: draw(columns(name, size)) for name in sorted({"prompt", *names})})


VALUES = (
    st.none() | st.booleans() | INT64 | st.integers() | FLOAT | TEXT | st.just("\ud800") | st.lists(INT64, max_size=2)
)
OBJECTS = st.dictionaries(st.sampled_from([*MANIFEST, "note", "score"]), VALUES, max_size=5)
GOOD = st.fixed_dictionaries({"prompt": st.text("abc ", min_size=1).map(lambda t: "x" + t)})
JUNK = st.text(max_size=10).map(lambda text: text.replace("\n", ""))
LINES = st.lists(GOOD.map(json.dumps) | OBJECTS.map(json.dumps) | JUNK, min_size=1, max_size=8)


def job(path, **sections):
    return job_from(
        {"input": {"path": str(path)}, "output": {"path": "out"}, "errors": {"bad_rows": "skip"}, **sections}
    )


def expanded(path, counter, **sections):
    """Sources and the image rows of each; Refused only from find_sources."""
    found = find_sources(job(path, **sections).input)
    expansion = Expansion.of(job(path, **sections), found.extras, files_of())
    tables = []
    for source in found.items:
        parts = [*expand_in_parts(source, expansion, counter)]
        for part in parts:
            part.validate(full=True)
            assert part.schema == schema.expanded_schema(expansion.passed)
        tables.append(pa.concat_tables(parts))
    return found, tables


def account(found, tables, samples, cells):
    """Every prompt row ends in its images or in one complaint, in order."""
    for source, table in zip(found.items, tables, strict=True):
        rows = table.to_pylist()
        numbers = read_rows(source, {}, found.extras).numbers.tolist()
        assert [*dict.fromkeys(row["prompt_row"] for row in rows)] == numbers
        assert len(numbers) == source.rows
        count = Counter(row["prompt_row"] for row in rows)
        for row in rows:
            assert (row["bucket"] is None) == (row["skip_code"] is not None) == (row["where"] is not None)
            if row["bucket"] is None:
                assert count[row["prompt_row"]] == 1
                assert row["skip_message"]
                assert row["prompt_id"]
            else:
                assert count[row["prompt_row"]] % cells == 0
                assert samples is None or count[row["prompt_row"]] == samples * cells
                assert row["prompt"].strip()
                assert row["height"] % 16 == row["width"] % 16 == 0
                assert 0 <= row["seed"] < 2**63


@QUICK
@given(table=tables())
def test_any_parquet_is_refused_or_accounted_for(table, counter):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        pq.write_table(table, path)
        sections = {"sweep": {"negative_prompt": ["", "ugly"]}} if "negative_prompt" not in table.column_names else {}
        try:
            find_sources(job(path).input)
        except Refused:
            return
        found, tables = expanded(path, counter, sampling={"num_images_per_prompt": 2}, **sections)
        assert found.rows == len(table)
        samples = None if "num_images_per_prompt" in table.column_names else 2
        account(found, tables, samples, 2 if sections else 1)


@settings(
    QUICK, max_examples=200, derandomize=True
)  # pyarrow 26 can end the process on some footers: no surprises here
@given(data=st.data())
def test_damaged_parquet_is_refused_and_never_more(data, counter):
    """One flipped byte anywhere: a refusal that names the file, or rows as they were written elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        table = pa.table({"prompt": ["a cat", "a dog"], "seed": [1, 2], "note": ["x", None]})
        pq.write_table(table, path, write_page_checksum=True)
        raw = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(raw)
        try:
            found, tables = expanded(path, counter)
        except Refused as error:
            said = str(error)
        else:
            account(found, tables, None, 1)
            return
        assert "a.parquet" in said or "input.columns" in said


@QUICK
@given(
    lines=st.lists(st.tuples(GOOD, OBJECTS).map(lambda pair: pair[1] | pair[0]), min_size=1, max_size=8), data=st.data()
)
def test_order_names_nothing(lines, data, counter):
    """A shuffled manifest has the same names and seeds, row for row."""
    shuffled = data.draw(st.permutations(lines))
    found = []
    for rows in (lines, shuffled):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            try:
                _, [table] = expanded(path, counter, sampling={"num_images_per_prompt": 2})
            except Refused:
                return
            columns = ("image_id", "prompt_id", "sample_index", "seed", "skip_code", "skip_message")
            found.append(Counter(tuple(row[name] for name in columns) for row in table.to_pylist()))
    assert found[0] == found[1]


@QUICK
@given(st.lists(GOOD, min_size=2, max_size=8), st.integers(1, 7))
def test_division_names_nothing(counter, lines, cut):
    """The same rows in one file or in two."""
    ids = []
    for files in ([lines], [lines[:cut], lines[cut:]]):
        with tempfile.TemporaryDirectory() as folder:
            for number, rows in enumerate(rows for rows in files if rows):
                (Path(folder) / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            _, tables = expanded(folder, counter)
            ids.append([row["image_id"] for table in tables for row in table.to_pylist()])
    assert ids[0] == ids[1]


def test_expanding_calls_little_a_row(counter):
    """Calls of Python functions are counted, not seconds: a loop in the wrong place is found on a busy machine, too."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        pq.write_table(pa.table({"prompt": ["the same words"] * 5000, "score": [*map(float, range(5000))]}), path)
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            _, [table] = expanded(path, counter, sampling={"num_images_per_prompt": 4})
        finally:
            sys.setprofile(before)
    assert calls < 20 * len(table), "14 a row when this was written"
