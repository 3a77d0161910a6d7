"""An export from S3 to S3, in pieces no larger than a draft, and continued there."""

import pytest

from batchgen.errors import Refused
from batchgen.export.options import Options
from batchgen.export.training import export_for_training
from batchgen.run.directory import Run
from batchgen.storage import drafts
from batchgen.storage.drafts import Draft
from batchgen.storage.store import Store
from tests.export.stored import files, stored

ROWS = [{"prompt": f"picture {i}"} for i in range(11)]


@pytest.mark.parametrize("to", ["webdataset", "mds", "imagefolder"])
def test_from_s3_to_s3(s3_url, tmp_path, seaweed, to):
    local = stored(tmp_path, ROWS)
    there = Store.open(f"{s3_url}/run")
    for path, data in files(tmp_path / "run").items():
        there.create(path, data)
    options = Options(shard_size=None if to == "imagefolder" else 4)
    dest = Store.open(f"{s3_url}/out")
    done = export_for_training(Run.open(there), str(dest), to, options=options)
    export_for_training(local, str(tmp_path / "out"), to, options=options)
    wanted = files(tmp_path / "out")
    assert {entry.path: dest.read(entry.path) for entry in dest.list()} == wanted
    assert done.tally.written == len(wanted)
    first = next(iter(wanted))
    dest.delete(first)
    again = export_for_training(Run.open(there), str(dest), to, options=options)
    assert (again.tally.written, dest.read(first)) == (1, wanted[first])
    for text in (b"s3://", str(tmp_path).encode(), seaweed.endpoint.encode()):
        assert not any(text in data for data in wanted.values())


def test_a_large_draft_is_sent_in_pieces(s3_url, monkeypatch):
    monkeypatch.setattr(drafts, "PIECE", 5 * 2**20)
    store = Store.open(s3_url)
    with Draft(store) as draft:
        for piece in range(11):
            draft.file.write(bytes([piece]) * 2**20)
        assert draft.create("large.tar")
        assert draft.is_at("large.tar")
        assert store.size("large.tar") == 11 * 2**20
        draft.file.write(b"x")
        assert not draft.is_at("large.tar")
    with store.open_file("large.tar") as opened:
        opened.seek(7 * 2**20 - 1)
        assert opened.read(2) == b"\x06\x07"


def test_what_lies_there_is_not_written_over(s3_url, tmp_path):
    run = stored(tmp_path, ROWS)
    dest = Store.open(f"{s3_url}/out")
    dest.create("00000.tar", b"mine")
    with pytest.raises(Refused, match=r"00000\.tar: is there and is another file"):
        export_for_training(run, str(dest), "webdataset")
    assert dest.read("00000.tar") == b"mine"
