"""CSV, TSV and TXT manifests, compressed or not: what stands in a file is what comes out, whatever it looks like."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.errors import Refused
from batchgen.job import Input
from batchgen.manifest import lines
from batchgen.manifest.formats import refuse_doubled
from batchgen.manifest.sources import find_sources
from batchgen.manifest.values import read_rows

SAMPLES = Path(__file__).parent / "samples"
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def read(path, **options):
    """All rows as [(number, ours and extras that are there or the complaint)]."""
    input = Input(path=str(path), **options)
    found, rows = find_sources(input), []
    for source in found.items:
        part = read_rows(source, input.columns, found.extras)
        columns = {name: values.to_pylist() for name, values in (part.ours | part.extras).items()}
        for i, number in enumerate(part.numbers.tolist()):
            values = {name: column[i] for name, column in columns.items() if column[i] is not None}
            rows.append((number, part.complaints.message(i) if i in part.complaints else values))
    return rows


def put(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(path):
    with pytest.raises(Refused) as error:
        read(path)
    [only] = error.value.problems
    return only


@pytest.mark.parametrize("suffix", COMPRESS)
def test_csv(tmp_path, suffix):
    text = 'prompt,seed,guidance_scale,note\r\na cat,7,4.5,x\r\n"two\nlines, ""quoted""",,3,\r\n\r\nlast,1e3,,NULL'
    path = put(tmp_path / f"a.csv{suffix}", COMPRESS[suffix](text.encode()))
    assert read(path) == [
        (2, {"prompt": "a cat", "seed": 7, "guidance_scale": 4.5, "note": "x"}),
        (3, {"prompt": 'two\nlines, "quoted"', "guidance_scale": 3.0}),
        (6, {"prompt": "last", "seed": 1000, "note": "NULL"}),
    ]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_tsv_keeps_quotes_that_enclose_no_field(tmp_path, suffix):
    text = 'prompt\tseed\n"G I G G L E" in paint\t1\nsay "hi"\t2\n"a ""quoted""\tone"\t3\n"never closed\t4\nlast\t5\n'
    path = put(tmp_path / f"a.tsv{suffix}", COMPRESS[suffix](text.encode()))
    assert [row["prompt"] for _, row in read(path)] == [
        '"G I G G L E" in paint',
        'say "hi"',
        'a "quoted"\tone',
        '"never closed',
        "last",
    ]
    assert [row["seed"] for _, row in read(path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_txt_holds_a_prompt_a_line(tmp_path, suffix):
    data = COMPRESS[suffix](b'\xef\xbb\xbfa cat, "black"\r\n\n  a dog\t\n# not a comment')
    assert read(put(tmp_path / f"a.txt{suffix}", data)) == [
        (1, {"prompt": 'a cat, "black"'}),
        (3, {"prompt": "a dog"}),
        (4, {"prompt": "# not a comment"}),
    ]


def test_compressed_jsonl(tmp_path):
    path = put(
        tmp_path / "a.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n') + gzip.compress(b'{"prompt": "b", "n": 1}\n')
    )
    assert read(path) == [(1, {"prompt": "a"}), (2, {"prompt": "b", "n": 1})]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_files_are_divided_between_records(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(lines, "SOURCE_BYTES", 100)
    text = "seed,prompt\n" + "".join(f'{i},"cat\n{i}"\n' for i in range(40))
    path = put(tmp_path / f"a.csv{suffix}", COMPRESS[suffix](text.encode()))
    assert len(find_sources(Input(path=str(path))).items) > 3
    assert read(path) == [(2 + 2 * i, {"prompt": f"cat\n{i}", "seed": i}) for i in range(40)]


def test_compressing_a_manifest_does_not_make_it_another(tmp_path):
    text = b"prompt\na cat\n"
    digests = {
        find_sources(Input(path=str(put(tmp_path / f"a.csv{suffix}", compress(text))))).digest
        for suffix, compress in COMPRESS.items()
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,b,c", "the row has 3 cells, the header has 2"),
        ("a", "the row has 1 cells, the header has 2"),
        ('"a" b,1', "the line is not CSV"),
        ('"never closed,1', "a quote is not closed"),
        ("a,x", "column seed is 'x', not an integer"),
        ("a,1_000", "column seed is '1_000', not an integer"),
        ("a,1.5", "column seed is 1.5, not an integer"),
        ("a," + "9" * 30, "too large"),
        (b"caf\xe9,1", "the line is not UTF-8"),
    ],
)
def test_a_bad_row_takes_no_neighbour_along(tmp_path, row, says):
    row = row if isinstance(row, bytes) else row.encode()
    path = put(tmp_path / "a.csv", b"prompt,seed\nbefore,1\n" + row + b"\nafter,2\n")
    before, bad, after = read(path)
    assert (before, after) == ((2, {"prompt": "before", "seed": 1}), (4, {"prompt": "after", "seed": 2}))
    assert bad[0] == 3
    assert says in bad[1]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.csv", b"prompt,prompt\nx,y\n", "the column prompt stands twice"),
        ("a.csv", b"caption,seed\nx,1\n", "Write input.columns: {caption: prompt}"),
        ("a.csv", "prompt\nx\n".encode("utf-16"), "is UTF-16. Save it as UTF-8"),
        ("a.csv", b'"prompt\nx\n', "the header cannot be read"),
        ("a.csv.gz", b"prompt\nx\n", "cannot be decompressed"),
        ("a.txt.zst", b"nonsense", "cannot be decompressed"),
        ("a.csv.gz", gzip.compress(b"prompt\n" + b"a cat\n" * 10_000, mtime=0)[:-20], "cannot be decompressed"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, name, data, says):
    assert says in refused(put(tmp_path / name, data)).message


def test_an_index_that_pandas_wrote_passes_through(tmp_path):
    assert read(put(tmp_path / "a.csv", ",prompt\n0,a cat\n")) == [(2, {"prompt": "a cat", "Unnamed: 0": "0"})]


def test_only_a_header_is_no_rows(tmp_path):
    assert read(put(tmp_path / "a.csv", "prompt,seed\n")) == []


def test_text_beside_tables_is_not_taken_for_prompts(tmp_path):
    put(tmp_path / "a.csv", "prompt\na cat\n")
    put(tmp_path / "README.txt", "These are prompts.")
    assert "README.txt" in refused(tmp_path).message
    (tmp_path / "a.csv").unlink()
    assert len(read(tmp_path)) == 1


def test_formats_mix_where_their_columns_agree(tmp_path):
    put(tmp_path / "a.csv", "prompt,seed\na cat,1\n")
    put(tmp_path / "b.tsv", "prompt\tsource\na dog\tweb\n")
    put(tmp_path / "c.jsonl", '{"prompt": "a cow", "source": "book"}\n')
    assert [row for _, row in read(tmp_path)] == [
        {"prompt": "a cat", "seed": 1},
        {"prompt": "a dog", "source": "web"},
        {"prompt": "a cow", "source": "book"},
    ]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from(["csv", "tsv"]))
def test_what_a_csv_writer_wrote_is_what_is_read(tmp_path_factory, rows, kind):
    text = io.StringIO(newline="")
    writer = csv.writer(text, "excel" if kind == "csv" else "excel-tab", quoting=csv.QUOTE_ALL)
    writer.writerows([("prompt", "note"), *rows])
    path = put(tmp_path_factory.mktemp("csv") / f"a.{kind}", text.getvalue())
    expected = [{k: v for k, v in zip(("prompt", "note"), row, strict=True) if v} for row in rows]
    assert [row for _, row in read(path)] == expected


def test_a_captions_table_with_forty_columns_and_its_pictures(tmp_path):
    """Pictures do not pass through, whatever their column is called; 37 columns of facts do."""
    facts = {f"fact_{i}": [float(i)] for i in range(37)}
    table = pa.table({"caption": ["a cat"], "image": [b"\x89PNG"], "url": ["https://x"]} | facts)
    pq.write_table(table, tmp_path / "captions.parquet")
    found = find_sources(Input(path=str(tmp_path / "captions.parquet"), columns={"caption": "prompt"}))
    assert [field.name for field in found.extras] == ["url", *facts]
    assert found.notices == ["Column image is binary and does not pass through."]


def test_a_table_like_partiprompts():
    """Its quotes are no marks of the format: a prompt may begin with one."""
    rows = read(SAMPLES / "partiprompts.tsv", columns={"Prompt": "prompt"})
    assert len(rows) == 12
    assert all(isinstance(row, dict) for _, row in rows)
    assert rows[0][1] == {
        "prompt": "fog",
        "Category": "Abstract",
        "Challenge": "Basic",
        "Note": "Weather words that name a mood as well",
    }
    assert any(row["prompt"].startswith('"OPEN LATE" in green') for _, row in rows)


def test_a_table_like_geneval():
    rows = read(SAMPLES / "geneval.jsonl")
    assert len(rows) == 12
    assert rows[0][1]["include"].startswith('[{"class":')


def test_blank_lines_are_few_where_they_cost_nothing(tmp_path):
    """A megabyte of .gz may be a billion of them, and reading them would not end."""
    blank = (b" " * 1023 + b"\n") * 1100
    for suffix, compress in list(COMPRESS.items())[1:]:
        path = put(tmp_path / f"a.jsonl{suffix}", compress(b'{"prompt": "a"}\n' + blank))
        assert "decompresses to more than 1 MiB of blank lines" in refused(path).message
    assert len(read(put(tmp_path / "a.jsonl", b'{"prompt": "a"}\n' + blank))) == 1


def test_thousands_of_names_are_compared_in_one_go():
    class Name(str):
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Name(f"column {number}") for number in range(2000)]
    refuse_doubled(names, "a.csv")
    with pytest.raises(Refused, match="the column column 7 stands twice"):
        refuse_doubled([*names, Name("column 7")], "a.csv")
    assert Name.compared < 20 * len(names)
