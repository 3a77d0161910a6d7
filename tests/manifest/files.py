"""Small files of prompts, and what looking through them finds."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import Refused
from batchgen.job import Input
from batchgen.manifest.sources import find_sources


def write(path, table=None, **options):
    """A Parquet file; by default one with a single prompt."""
    pq.write_table(pa.table({"prompt": ["a cat"]} if table is None else table), path, **options)
    return path


def write_lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def find(path, **options):
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return find_sources(Input(path=paths, **options))


def problems(path, **options):
    with pytest.raises(Refused) as error:
        find(path, **options)
    return list(error.value.problems)


def problem(path, **options):
    [only] = problems(path, **options)
    return only


def names(sources):
    return [source.name for source in sources.items]
