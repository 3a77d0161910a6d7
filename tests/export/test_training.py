"""Exports for training are read by those who read such files, and are the same bytes however often they are begun."""

import gc
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import warnings

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.errors import Refused
from batchgen.evaluate.exported import read_records
from batchgen.export.options import Options
from batchgen.export.tar import Tar
from batchgen.export.training import export_for_training
from batchgen.run.directory import Run
from tests.export.stored import files, planned, store_shards, stored

ROWS = [{"prompt": f"picture {i}", "style": "oil", "height": 32 + 16 * (i % 2), "width": 32} for i in range(22)]
FOUR = Options(shard_size=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """22 images of two sizes in shards of four, two of which failed."""
    return stored(tmp_path_factory.mktemp("training"), ROWS, failed={1: [False, True, True, False]})


def in_order(run):
    """image_id → the stored bytes, in the order of the plan."""
    tables = [pq.read_table(f"{run.store.url}/data/shard-{number:06}.parquet") for number in range(run.next_shard)]
    return {row["image_id"]: row["image"]["bytes"] for table in tables for row in table.to_pylist()}


def exported(*words):
    done = CliRunner().invoke(app, ["export", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def read_by_webdataset(folder):
    """It leaves its files open."""
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        tars = sorted(str(path) for path in folder.glob("*.tar"))
        samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
        gc.collect()
    return samples


def test_webdataset_reads_what_it_is_for(run, tmp_path):
    code, said = exported(run.store.url, tmp_path / "out", "--to", "webdataset", "--shard-size", 8, "--bare")
    assert code == 0, said
    assert said.startswith(f"{tmp_path}/out: 9 files written, of 20 images.\n")
    assert "note: 2 images failed and are left out (RENDER_ERROR: 2)." in said
    samples = read_by_webdataset(tmp_path / "out")
    rows = [json.loads(sample["json"]) for sample in samples]
    assert {row["image_id"]: sample["png"] for row, sample in zip(rows, samples, strict=True)} == in_order(run)
    assert [row["image_id"] for row in rows] == list(in_order(run))
    assert [sample["txt"].decode() for sample in samples] == [row["prompt"] for row in rows]
    assert [sample["__key__"] for sample in samples][6:10] == ["000006", "000007", "000010", "000011"]
    assert rows[0]["status"] == "success"
    assert {row["style"] for row in rows} == {"oil"}


def test_beside_a_tar_stand_the_tables_of_img2dataset(run, tmp_path):
    export_for_training(run, str(tmp_path), "webdataset")
    assert sorted(files(tmp_path)) == ["00000.parquet", "00000.tar", "00000_stats.json"]
    table = pq.read_table(tmp_path / "00000.parquet")
    names = ["key", "caption", "status", "error_message", "width", "height", "original_width", "original_height"]
    assert table.column_names[:8] == names
    assert table.schema.metadata is None
    with tarfile.open(tmp_path / "00000.tar") as tar:
        assert tar.getnames()[:3] == ["000000000.png", "000000000.txt", "000000000.json"]
        rows = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]
        for name, row in zip([one for one in tar.getnames() if one.endswith(".png")], rows, strict=True):
            picture = Image.open(tar.extractfile(name))
            assert (picture.width, picture.height) == (row["width"], row["height"])
    assert table.to_pylist() == rows
    stats = json.loads((tmp_path / "00000_stats.json").read_text())
    assert (stats["count"], stats["successes"], stats["failed_to_download"]) == (20, 20, 0)


def test_a_tar_is_as_tarfile_writes_it():
    members = {"000000000.png": bytes(700), "000000000.txt": "ä".encode(), "000000000.json": b"", "9.png": bytes(512)}
    ours, theirs = io.BytesIO(), io.BytesIO()
    tar = Tar(ours)
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.USTAR_FORMAT) as other:
        for name, data in members.items():
            tar.add(name, data)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            other.addfile(info, io.BytesIO(data))
    tar.close()
    assert ours.getvalue() == theirs.getvalue()


def test_again_writes_nothing_and_a_rest_is_written(run, tmp_path):
    first = export_for_training(run, str(tmp_path), "webdataset", options=FOUR)
    assert (first.tally.written, first.tally.there) == (15, 0)
    whole = files(tmp_path)
    for gone in (["00002_stats.json"], ["00000.tar", "00001_stats.json", "00001.parquet"], list(whole)):
        for path in gone:
            (tmp_path / path).unlink()
        again = export_for_training(Run.open(run.store), str(tmp_path), "webdataset", options=FOUR)
        assert (again.tally.written, again.tally.there) == (len(gone), 15 - len(gone))
        assert files(tmp_path) == whole
    assert len([one for one in read_records(run.store) if one.dest == str(tmp_path)]) == 1


def test_what_lies_there_must_be_this_export(run, tmp_path):
    export_for_training(run, str(tmp_path), "webdataset", options=FOUR)
    with pytest.raises(Refused, match=r"00000.tar: holds another export, of other images or options. Delete"):
        export_for_training(run, str(tmp_path), "webdataset", options=Options(shard_size=4, bare=True))
    with pytest.raises(Refused, match=r"holds 9 files that this export does not make \(00002.parquet"):
        export_for_training(run, str(tmp_path), "webdataset", options=Options(shard_size=10))
    (tmp_path / "00001_stats.json").unlink()
    (tmp_path / "00001.tar").write_bytes(b"something else")
    with pytest.raises(Refused, match=r"00001\.tar: is there and is another file"):
        export_for_training(run, str(tmp_path), "webdataset", options=FOUR)
    (tmp_path / "readme.txt").write_text("mine")
    with pytest.raises(Refused, match=r"holds 1 files that this export does not make \(readme.txt\)"):
        export_for_training(run, str(tmp_path), "webdataset", options=FOUR)
    with pytest.raises(Refused, match="lie in one another"):
        export_for_training(run, f"{run.store.url}/tars", "webdataset")


def test_parts_of_a_run_that_renders_are_those_of_the_end(tmp_path):
    run = planned(tmp_path, ROWS)
    out, quiet = tmp_path / "out", tmp_path / "quiet"
    failed = {1: [False, True, True, False]}
    store_shards(run, [0, 1, 4], failed)  # 4 waits for 2 and 3
    options = Options(shard_size=5)
    done = export_for_training(run, str(out), "webdataset", options=options)
    assert (done.images, sorted(files(out))) == (5, ["00000.parquet", "00000.tar", "00000_stats.json"])
    assert any("14 images are not rendered yet" in note and "1 that are there wait" in note for note in done.notes)
    before = files(out)
    store_shards(run, [2], failed)
    assert export_for_training(run, str(out), "webdataset", options=options).images == 10
    store_shards(run, [3, 5], failed)
    assert export_for_training(run, str(out), "webdataset", options=options).images == 20
    export_for_training(run, str(quiet), "webdataset", options=options)
    assert files(out) == files(quiet)
    assert before.items() <= files(out).items()


def test_nothing_is_written_before_a_part_is_full(tmp_path):
    run = planned(tmp_path, ROWS)
    store_shards(run, [1, 2])
    done = export_for_training(run, str(tmp_path / "out"), "webdataset")
    assert (done.images, files(tmp_path / "out")) == (0, {})


def test_a_command_that_is_killed_goes_on(tmp_path):
    """kill -9 in the middle, again and again, and at last the same bytes as of an export that nobody disturbs."""
    run = stored(tmp_path, [{"prompt": f"picture {i}"} for i in range(300)], per_shard=20)
    command = [sys.executable, "-m", "batchgen", "export", run.store.url]
    options = ["--to", "webdataset", "--shard-size", "5"]
    killed, there = 0, 0
    for _ in range(2):
        process = subprocess.Popen([*command, tmp_path / "out", *options], stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 60
        while process.poll() is None and len(list((tmp_path / "out").glob("*.tar"))) < there + 5:
            assert time.monotonic() < give_up
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        there = len(list((tmp_path / "out").glob("*.tar")))
    assert killed == 2
    assert 0 < there < 60
    subprocess.run([*command, tmp_path / "out", *options], check=True, stdout=subprocess.DEVNULL)
    export_for_training(run, str(tmp_path / "quiet"), "webdataset", options=Options(shard_size=5))
    assert files(tmp_path / "out") == files(tmp_path / "quiet")


def test_a_run_that_may_only_be_read_is_exported(tmp_path):
    run = stored(tmp_path, ROWS)
    (tmp_path / "run" / "exports").write_text("in the way of a folder")
    done = export_for_training(run, str(tmp_path / "out"), "webdataset")
    assert done.tally.written == 3
    assert any(note.startswith("the run does not know of this export. Cannot write") for note in done.notes)
