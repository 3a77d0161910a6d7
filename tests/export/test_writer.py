"""An export is written once, goes on where it ended, and holds what its reader reads and nothing else."""

import json
import os
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

import batchgen
from batchgen.errors import Refused
from batchgen.evaluate.benchmarks.geneval import GENEVAL
from batchgen.evaluate.benchmarks.geneval2 import GENEVAL2
from batchgen.evaluate.exported import read_records
from batchgen.evaluate.importing import import_benchmark
from batchgen.export.benchmark_folder import BenchmarkFolder
from batchgen.export.checking import check, check_export, prompts_from
from batchgen.export.writer import export
from batchgen.job.file import job_from
from batchgen.look import doctor
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run.directory import Run
from batchgen.run.layout import SUCCESS, data_path
from batchgen.storage.store import Store
from tests.evaluate.rendered import SAMPLES, rendered
from tests.in_process import render_here

TARGET = BenchmarkFolder(GENEVAL, "fake")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writer")
    lines = (SAMPLES / "geneval.jsonl").read_text().splitlines()
    lines[5] = lines[5].replace("two feathers", "fake:raise")
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    return rendered(folder, "geneval", [folder / "prompts.jsonl"], images=3)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pictures_are_the_stored_bytes(run, tmp_path):
    done = export(run, str(tmp_path / "out"), TARGET)
    (record,) = [one for one in read_records(run.store) if one.dest == str(tmp_path / "out")]
    stored = pq.read_table(f"{run.store.url}/data").to_pylist()
    wanted = {row["image_id"]: row["image"]["bytes"] for row in stored}
    there = files(tmp_path / "out")
    assert {one.image_id: there[one.path] for one in record.shows} == wanted
    assert done.images == 33
    assert [why.split(":")[0] for why in done.failed.values()] == ["RENDER_ERROR"] * 3
    assert doctor.examine(run).problems == [], "nothing of it disturbs the run"


def test_again_writes_nothing_and_a_rest_is_written(run, tmp_path):
    first = export(run, str(tmp_path / "out"), TARGET)
    before = files(tmp_path / "out")
    (tmp_path / "out" / "00003" / "samples" / "0001.png").unlink()
    (tmp_path / "out" / "00004" / "metadata.jsonl").unlink()
    again = export(run, str(tmp_path / "out"), TARGET)
    assert (first.there, again.written, again.there) == (0, 2, first.written - 2)
    assert again.record == first.record
    assert files(tmp_path / "out") == before


def test_a_killed_export_goes_on(run, tmp_path):
    """Killed as soon as some files are there; whatever it left of files in the making is gone afterwards."""
    out = tmp_path / "out"
    script = (
        "import sys; from batchgen.run.directory import Run; from batchgen.storage.store import Store\n"
        "from batchgen.export.writer import export; from batchgen.export.benchmark_folder import BenchmarkFolder\n"
        "from batchgen.evaluate.benchmarks.geneval import GENEVAL\n"
        "export(Run.open(Store.open(sys.argv[1])), sys.argv[2], BenchmarkFolder(GENEVAL, 'fake'))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, run.store.url, str(out)])
    while not list(out.glob("*/samples/*.png")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    (out / ".batchgen" / "tmp").mkdir(parents=True, exist_ok=True)
    (out / ".batchgen" / "tmp" / "left-over").write_bytes(b"half a pict")
    export(run, str(out), TARGET)
    assert sorted(os.listdir(out)) == [f"{number:05}" for number in range(12) if number != 5]
    assert [one for one in check_export(run, str(out), GENEVAL) if "00005" not in one] == []


def test_other_files_are_refused(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match=r"holds 1 files that this export does not make \(notes.txt\)"):
        export(run, str(out), TARGET)
    assert files(out) == {"notes.txt": b"mine"}


def test_another_picture_of_the_same_name_is_refused(run, tmp_path):
    out = tmp_path / "out"
    export(run, str(out), TARGET)
    (out / "00003" / "samples" / "0001.png").write_bytes(b"other")
    with pytest.raises(Refused, match=r"00003/samples/0001.png: is there and is another file"):
        export(run, str(out), TARGET)


def test_a_selection(run, tmp_path):
    frame = batchgen.open(run.store.url).to_pandas()
    chosen = set(frame[frame["category"] == "position"]["image_id"])
    assert export(run, str(tmp_path / "out"), TARGET, chosen).images == 6
    assert sorted(os.listdir(tmp_path / "out")) == ["00008", "00009"]
    with pytest.raises(Refused, match="has no image nobody"):
        export(run, str(tmp_path / "other"), TARGET, {"nobody"})


def test_images_that_are_not_rendered_yet_are_counted(tmp_path):
    run = rendered(tmp_path, "geneval", [SAMPLES / "geneval.jsonl"], images=1, output={"images_per_shard": 4})
    for path in (SUCCESS, data_path(1)):
        run.store.delete(path)
    done = export(run, str(tmp_path / "out"), TARGET)
    assert (done.images, done.missing) == (8, 4)
    prompts = prompts_from(str(tmp_path / "geneval-run.parquet"), GENEVAL)
    problems = check(str(tmp_path / "out"), GENEVAL, prompts)
    assert len(problems) == 4, "the manifest knows the prompts that the folder lacks"
    assert prompts_from(run.store.url, GENEVAL) == prompts[:4] + prompts[8:]


def test_places_that_are_the_run_are_refused(run):
    for place in (f"{run.store.url}/out", run.store.url):
        with pytest.raises(Refused, match="lie in one another"):
            export(run, place, TARGET)


def test_the_benchmarks_own_prompt_is_written_whatever_was_rendered(tmp_path):
    line = {"prompt": "two drums", "vqa_list": [["How many drums are in the image?", "two"]]}
    (tmp_path / "p.jsonl").write_text(json.dumps(line))
    import_benchmark("geneval2", [str(tmp_path / "p.jsonl")], str(tmp_path / "m.parquet"))
    table = pq.read_table(tmp_path / "m.parquet")
    at = table.schema.get_field_index("prompt")
    pq.write_table(table.set_column(at, "prompt", [["two drums, studio photo"]]), tmp_path / "m.parquet")
    values = {"input": {"path": str(tmp_path / "m.parquet")}, "model": {"preset": "fake"}}
    values |= {"sampling": {"height": 32, "width": 32}, "output": {"path": str(tmp_path / "run")}}
    run = render_here(make_plan(prepare(job_from(values)))[0])
    export(run, str(tmp_path / "out"), BenchmarkFolder(GENEVAL2, "fake"))
    assert json.loads((tmp_path / "out" / "image_paths.json").read_text()) == {"two drums": "images/00000.png"}


def test_rows_of_no_benchmark_are_refused(make_job, tmp_path):
    plain = render_here(make_plan(prepare(make_job(["a", "b"])))[0])
    with pytest.raises(Refused, match=r"is not of GenEval[\s\S]*batchgen import geneval"):
        export(plain, str(tmp_path / "out"), TARGET)


def test_to_an_object_store_and_back(run):
    out = f"memory://exports/{time.time_ns()}"
    done = export(run, out, TARGET)
    assert len(Store.open(out).list()) == done.written
    assert export(Run.open(run.store), out, TARGET).written == 0


def test_cells_whose_names_are_no_folders_are_told(tmp_path):
    cells = {"cells": {"a/b": {"guidance_scale": 1.0}, "plain": {"guidance_scale": 4.5}}}
    run = rendered(tmp_path, "geneval", [SAMPLES / "geneval.jsonl"], images=1, sweep=cells)
    done = export(run, str(tmp_path / "out"), TARGET)
    assert done.roots == ("a-b", "plain")
    assert "note: the cell a/b is the folder a-b there." in list(done.lines())
    cells["cells"]["a b"] = {"guidance_scale": 7.0}
    run = rendered(tmp_path, "geneval", [SAMPLES / "geneval.jsonl"], images=1, out="other", sweep=cells)
    with pytest.raises(Refused, match=r"the cells a/b and a b would be one folder[\s\S]*\"cell = 'a/b'\" --name one"):
        export(run, str(tmp_path / "other-out"), TARGET)
    assert not (tmp_path / "other-out").exists()
