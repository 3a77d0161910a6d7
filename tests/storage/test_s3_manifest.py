"""A manifest in an object store: found, divided and expanded as on a disk, range by range."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import Refused
from batchgen.job.file import job_from
from batchgen.job.presets import DEMO_CHECKPOINT
from batchgen.manifest.sources import find_sources
from batchgen.rows.expand import expand_in_parts
from batchgen.rows.expansion import Expansion
from batchgen.rows.tokens import TokenCounter
from batchgen.storage.store import Store
from tests.specs import files_of


def expanded(path):
    job = job_from({"input": {"path": str(path)}, "output": {"path": "out"}})
    found = find_sources(job.input)
    counter = TokenCounter.load(DEMO_CHECKPOINT)
    settings = Expansion.of(job, found.extras, files_of())
    return found, pa.concat_tables(
        part for source in found.items for part in expand_in_parts(source, settings, counter)
    )


def test_a_manifest_on_s3_is_the_one_on_the_disk(s3_url, tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    pq.write_table(pa.table({"prompt": [f"cat {i}" for i in range(100)]}), folder / "a.parquet", row_group_size=30)
    (folder / "b.jsonl").write_text("".join(json.dumps({"prompt": f"dog {i}"}) + "\n" for i in range(100)))
    (folder / "c.csv").write_text("prompt\n" + "".join(f'"cow\n{i}"\n' for i in range(50)))
    (folder / "d.tsv.gz").write_bytes(gzip.compress(b"prompt\n" + b"".join(b"hen %d\n" % i for i in range(50))))
    store = Store.open(f"{s3_url}/prompts")
    for path in folder.iterdir():
        store.create(path.name, path.read_bytes())
    on_disk, rows = expanded(folder)
    for path in (f"{s3_url}/prompts", f"{s3_url}/prompts/*", f"{s3_url}/**/*.*"):
        on_s3, same = expanded(path)
        assert (on_s3.digest, on_s3.rows) == (on_disk.digest, 300)
        assert same.equals(rows)


def test_what_is_not_in_the_bucket_is_refused(s3_url):
    Store.open(s3_url).create("prompts.jsonl", b'{"prompt": "x"}\n')
    with pytest.raises(Refused, match=r"Did you mean prompts\.jsonl\?"):
        expanded(f"{s3_url}/promts.jsonl")
    with pytest.raises(Refused, match=r"does not exist|no such"):
        expanded("s3://no-such-bucket-anywhere/x.parquet")
