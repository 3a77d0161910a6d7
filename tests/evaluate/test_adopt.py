"""Images that were made elsewhere become a run that is opened, scored and exported, and that nothing renders."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import batchgen
from batchgen import report
from batchgen.errors import Refused
from batchgen.evaluate.adopt import adopt
from batchgen.evaluate.benchmarks import benchmark_named
from batchgen.evaluate.importing import import_benchmark
from batchgen.evaluate.official import score_from
from batchgen.evaluate.scores import read_scores
from batchgen.export.benchmark_folder import BenchmarkFolder
from batchgen.export.writer import export
from batchgen.look import again, contact_page, doctor
from batchgen.look.status import status_of
from batchgen.plan.preflight import prepare
from batchgen.plan.retry import plan_retry
from batchgen.run.layout import data_path
from tests.evaluate.rendered import SAMPLES, written

PROMPTS = (SAMPLES / "geneval.jsonl").read_text().splitlines()
COUNT = 4


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "prompts.jsonl").write_text("\n".join(PROMPTS[:COUNT]))
    import_benchmark("geneval", [str(tmp_path / "prompts.jsonl")], str(tmp_path / "m.parquet"), images=2)
    return str(tmp_path / "m.parquet")


@pytest.fixture
def folder(tmp_path):
    """As GenEval's own script writes it: five digits, no batchgen anywhere."""
    for number in range(COUNT):
        samples = tmp_path / "flux" / f"{number:05}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(PROMPTS[number])
        for sample in range(2):
            noise = np.random.default_rng([number, sample]).integers(0, 255, (24 + 8 * sample, 32, 3), np.uint8)
            Image.fromarray(noise).save(samples / f"{sample:05}.png")
    return tmp_path / "flux"


def sound(run):
    assert doctor.examine(run).problems == []
    now = status_of(run)
    assert (now.missing, now.complete) == (0, True)


def test_a_folder_becomes_a_run(folder, manifest, tmp_path, console):
    done = adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest, {"guidance_scale": 3.5})
    sound(done.run)
    assert (done.totals.images, done.totals.failed, done.absent) == (8, 0, 0)
    opened = batchgen.open(str(tmp_path / "run"))
    frame = opened.to_pandas()
    assert set(frame["model"]) == {"flux"}
    assert set(frame["guidance_scale"]) == {3.5}
    assert frame["seed"].isna().all(), "unknown is null"
    assert frame["height"].tolist() == [24, 32] * 4
    for row in frame.to_dict("records"):
        stored = opened.stored(row)["image"][0].as_py()["bytes"]
        assert stored == (folder / row["adopted_file"]).read_bytes(), "the bytes are as they were"
    card = (tmp_path / "run" / "README.md").read_text()
    assert "made elsewhere" in card
    assert "How to repeat it" not in card
    assert "license: unknown" in card
    assert "24 × 32, guidance 3.5, batch of" in contact_page.page_of(done.run).decode()
    report.print_image(console, done.run, opened.row(frame["image_id"][0]))
    assert "adopted_file" in console.file.getvalue()
    assert "rerender" not in console.file.getvalue()


def test_official_scores_of_the_folder_are_tied(folder, manifest, tmp_path):
    run = adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest).run
    rows = [{"filename": str(path), "correct": path.name == "00000.png", "tag": "t"} for path in folder.rglob("*.png")]
    taken = score_from(run, "geneval", str(written(tmp_path, "results.jsonl", rows)))
    assert (taken.scored, taken.unscored) == (8, 0)
    frame = batchgen.open(str(tmp_path / "run")).to_pandas().merge(read_scores(run.store)["geneval"].table)
    assert frame["score"].tolist() == [1.0, 0.0] * 4


def test_it_is_exported_like_any_other(folder, manifest, tmp_path):
    run = adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest).run
    export(run, str(tmp_path / "again"), BenchmarkFolder(benchmark_named("geneval"), "flux"))
    for path in folder.rglob("metadata.jsonl"):
        assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert (tmp_path / "again" / "00002" / "samples" / "0001.png").read_bytes() == (
        folder / "00002" / "samples" / "00001.png"
    ).read_bytes()


def test_what_renders_refuses_it(folder, manifest, tmp_path, make_job):
    run = adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest).run
    job = make_job(["a"])
    for extend in (False, True):
        with pytest.raises(Refused, match=r"made elsewhere \(flux\) and adopted, so it cannot be rendered"):
            prepare(job, extend=extend)
    with pytest.raises(Refused, match="cannot be tried again"):
        plan_retry(run)
    with pytest.raises(Refused, match="cannot be rendered again"):
        again.rerender(run, 1, doctor.examine(run))
    results = batchgen.open(str(tmp_path / "run"))
    row = results.row(results.to_pandas()["image_id"][0])
    with pytest.raises(Refused, match="cannot be rendered again"):
        again.render_again(run, results.stored(row), json.loads(row["versions"]))


def test_what_is_not_there_is_a_failed_row(folder, manifest, tmp_path):
    shutil.rmtree(folder / "00001")
    (folder / "00002" / "samples" / "00001.png").write_bytes(b"\x89PNG no picture")
    (folder / "00003" / "samples" / "00000.png").write_bytes(b"")
    done = adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest)
    sound(done.run)
    assert dict(done.totals.codes) == {"NOT_IN_FOLDER": 2, "UNREADABLE": 2}
    assert (done.totals.images, done.absent) == (4, 2)
    assert list(done.lines("flux"))[1:] == [
        "note: 2 that the table asks for are not there.",
        "note: 2 are there and are no pictures, such as " + done.unreadable[0],
    ]
    assert done.unreadable[1].startswith("00003/samples/00000.png: ")


def test_again_continues_and_others_are_refused(folder, manifest, tmp_path):
    first = adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest)
    first.run.store.delete(data_path(0))
    sound(adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest).run)
    (folder / "00002" / "samples" / "00001.png").unlink()
    with pytest.raises(Refused, match="holds another run"):
        adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest)


def test_mixed_formats_and_grids(tmp_path):
    from tests.evaluate.test_benchmarks_first import DPG_COLUMNS, dpg_rows

    text = "\n".join(",".join(f'"{value}"' for value in row) for row in [DPG_COLUMNS, *dpg_rows()])
    (tmp_path / "dpg_bench.csv").write_text(text)
    import_benchmark("dpg", [str(tmp_path / "dpg_bench.csv")], str(tmp_path / "m.parquet"))
    (tmp_path / "grids").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "grids" / "7.png")
    Image.fromarray(noise).save(tmp_path / "grids" / "kettle12.jpg")
    done = adopt(str(tmp_path / "grids"), "dpg", "flux", str(tmp_path / "run"), str(tmp_path / "m.parquet"))
    sound(done.run)
    opened = batchgen.open(str(tmp_path / "run"))
    frame = opened.to_pandas()
    assert done.totals.images == 8
    third = frame[(frame["benchmark_id"] == "7") & (frame["sample_index"] == 2)]["image_id"].item()
    assert np.array_equal(np.asarray(opened.image(third)), noise[32:, :32]), "tiles are counted row by row"


def test_jpegs_of_another_layout_stay_as_they_are(tmp_path):
    prompts = {f"{at:05}": {"prompt": f"a snail on drum {at}"} for at in range(3)}
    (tmp_path / "genai_image.json").write_text(json.dumps(prompts))
    import_benchmark("genai-bench", [str(tmp_path / "genai_image.json")], str(tmp_path / "m.parquet"))
    (tmp_path / "images" / "sd").mkdir(parents=True)
    for at in range(3):
        noise = np.random.default_rng(at).integers(0, 255, (32, 48, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / "sd" / f"{at:05}.jpeg", quality=80)
    done = adopt(str(tmp_path / "images"), "genai-bench", "sd", str(tmp_path / "run"), str(tmp_path / "m.parquet"))
    sound(done.run)
    opened = batchgen.open(str(tmp_path / "run"))
    for row in opened.to_pandas().to_dict("records"):
        data = (tmp_path / "images" / row["adopted_file"]).read_bytes()
        assert opened.stored(row)["image"][0].as_py()["bytes"] == data
    (tmp_path / "images" / "flux").mkdir()
    shutil.copy(tmp_path / "images" / "sd" / "00001.jpeg", tmp_path / "images" / "flux" / "00001.jpeg")
    with pytest.raises(Refused, match=r"several images for 1 places, such as flux/00001.jpeg, sd/00001.jpeg"):
        adopt(str(tmp_path / "images"), "genai-bench", "sd", str(tmp_path / "run-2"), str(tmp_path / "m.parquet"))


def test_bad_input_gets_one_message(folder, manifest, tmp_path):
    run = str(tmp_path / "run")
    with pytest.raises(Refused, match=r"has no images where the scorer of GenEval[\s\S]*digits"):
        adopt(str(folder / "00000" / "samples"), "geneval", "flux", run, manifest)
    with pytest.raises(Refused, match="batchgen import geneval FILE"):
        adopt(str(folder), "geneval", "flux", run, str(tmp_path / "nothing.parquet"))
    with pytest.raises(Refused, match="is no manifest of geneval"):
        adopt(str(folder), "geneval", "flux", run, str(tmp_path / "prompts.jsonl"))
    with pytest.raises(Refused, match="guidance: no setting"):
        adopt(str(folder), "geneval", "flux", run, manifest, {"guidance": 3.5})
    with pytest.raises(Refused, match="lie in one another"):
        adopt(str(folder), "geneval", "flux", str(folder / "run"), manifest)
    assert not (tmp_path / "run").exists()


def test_a_folder_is_of_the_prompt_that_it_says_whatever_its_number(folder, manifest, tmp_path):
    """As for the scorer: otherwise another table's prompts would be told of these pictures."""
    (folder / "00000").rename(folder / "00009")
    (folder / "00001").rename(folder / "00000")
    (folder / "00002" / "metadata.jsonl").write_text(
        PROMPTS[2].replace(json.loads(PROMPTS[2])["prompt"], "another one")
    )
    done = adopt(str(folder), "geneval", "flux", str(tmp_path / "run"), manifest)
    assert (done.totals.images, done.absent) == (6, 2)
    rows = batchgen.open(str(tmp_path / "run")).to_pandas()
    rows = rows[rows["status"] == "ok"]
    for row in rows.to_dict("records"):
        said = json.loads((folder / row["adopted_file"].split("/")[0] / "metadata.jsonl").read_text())
        assert said["prompt"] == row["benchmark_prompt"]
