"""GenEval from its prompt file to its scores in the run, by its scorer's own reading and summing, written out here."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import batchgen
from batchgen.errors import Refused
from batchgen.evaluate.benchmarks.geneval import GENEVAL
from batchgen.evaluate.importing import import_benchmark
from batchgen.evaluate.official import score_from
from batchgen.evaluate.scores import read_scores
from batchgen.export.benchmark_folder import BenchmarkFolder
from batchgen.export.checking import check, check_export, prompts_of
from batchgen.export.writer import export
from tests.evaluate.rendered import SAMPLES, rendered, written

PROMPTS = SAMPLES / "geneval.jsonl"
REAL = Path(os.environ.get("GENEVAL_METADATA", "/work/shared/prompts/geneval_metadata.jsonl"))
TO_GENEVAL = BenchmarkFolder(GENEVAL, "fake")


def correct(path):
    """The judge: whether the red of a picture is the larger half of what red can be."""
    return bool(np.asarray(Image.open(path))[..., 0].mean() > 127)


def evaluate_images(folder):
    """evaluate_images.py of djghosh13/geneval, af4902f: its walk and its lines."""
    results = []
    for subfolder in os.listdir(folder):
        folderpath = os.path.join(folder, subfolder)
        if not os.path.isdir(folderpath) or not subfolder.isdigit():
            continue
        with open(os.path.join(folderpath, "metadata.jsonl")) as fp:
            metadata = json.load(fp)
        for imagename in os.listdir(os.path.join(folderpath, "samples")):
            imagepath = os.path.join(folderpath, "samples", imagename)
            if not os.path.isfile(imagepath) or not re.match(r"\d+\.png", imagename):
                continue
            results.append(
                {
                    "filename": imagepath,
                    "tag": metadata["tag"],
                    "prompt": metadata["prompt"],
                    "correct": correct(imagepath),
                    "reason": "",
                    "metadata": json.dumps(metadata),
                    "details": "{}",
                }
            )
    return results


def summary_scores(results):
    """summary_scores.py: the unweighted mean of the means of the tags."""
    tags = {row["tag"] for row in results}
    return np.mean([np.mean([row["correct"] for row in results if row["tag"] == tag]) for tag in sorted(tags)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return rendered(tmp_path_factory.mktemp("geneval"), "geneval", [PROMPTS], images=2)


def test_lines_become_rows(tmp_path):
    said = import_benchmark("geneval", [str(PROMPTS)], str(tmp_path / "geneval.parquet"))
    assert (said.prompts, said.images, said.licence) == (12, 4, "MIT")
    assert said.categories == dict.fromkeys(
        ["single_object", "two_object", "counting", "colors", "position", "color_attr"], 2
    )
    table = pq.read_table(tmp_path / "geneval.parquet")
    assert "\n".join(table["benchmark_record"].to_pylist()) + "\n" == PROMPTS.read_text()
    assert table["id"][3].as_py() == "geneval-00003"
    assert os.listdir(tmp_path) == ["geneval.parquet"]


@pytest.mark.skipif(not REAL.exists(), reason="needs GenEval's own prompt file")
def test_the_real_file(tmp_path):
    said = import_benchmark("geneval", [str(REAL)], str(tmp_path / "geneval.parquet"))
    assert said.prompts == 553
    assert sorted(said.categories.values()) == [80, 80, 94, 99, 100, 100]
    records = pq.read_table(tmp_path / "geneval.parquet")["benchmark_record"].to_pylist()
    assert "".join(f"{line}\n" for line in records).encode() == REAL.read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt\na cat\n", "line 1 is not JSON"),
        ('{"prompt": "a cat"}\n', "no text 'tag'"),
        ('{"prompt": "a cat", "tag": "style", "include": []}\n', "tags are single_object"),
        ('{"prompt": "a \\ud800", "tag": "colors", "include": []}\n', "half of a surrogate pair"),
        ("", "no prompts"),
    ],
)
def test_another_file_gets_one_message(tmp_path, text, message):
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(Refused, match=rf"{message}[\s\S]*Expected: evaluation_metadata.jsonl"):
        import_benchmark("geneval", [str(tmp_path / "p.jsonl")], str(tmp_path / "out.parquet"))
    assert not (tmp_path / "out.parquet").exists()


def test_from_images_to_scores(run, tmp_path):
    done = export(run, str(tmp_path / "out"), TO_GENEVAL)
    assert (done.written, done.images, done.left_out, done.failed) == (12 + 24, 24, (), {})
    assert sorted(os.listdir(tmp_path / "out")) == [f"{number:05}" for number in range(12)]
    lines = [(tmp_path / "out" / f"{number:05}" / "metadata.jsonl").read_text() for number in range(12)]
    assert lines == PROMPTS.read_text().splitlines()
    assert check_export(run, str(tmp_path / "out"), GENEVAL) == []
    results = evaluate_images(tmp_path / "out")
    taken = score_from(run, "geneval", str(written(tmp_path, "results.jsonl", results)))
    assert (taken.scored, taken.unscored, taken.unknown) == (24, 0, ())
    scores = read_scores(run.store)["geneval"]
    assert scores.about.settings["licence"] == "MIT"
    frame = batchgen.open(run.store.url).to_pandas().merge(scores.table, on="image_id")
    assert summary_scores(results) == frame.groupby("category")["score"].mean().mean()
    assert 0 < frame["score"].mean() < 1, "the judge tells images apart"
    opened = batchgen.open(run.store.url)
    for image_id, score in zip(frame["image_id"], frame["score"], strict=True):
        assert score == float(np.asarray(opened.image(image_id))[..., 0].mean() > 127), "each image has its own score"


def test_every_cell_has_a_folder(tmp_path):
    run = rendered(tmp_path, "geneval", [PROMPTS], images=1, sweep={"guidance_scale": [1.0, 4.5]})
    done = export(run, str(tmp_path / "out"), TO_GENEVAL)
    assert sorted(os.listdir(tmp_path / "out")) == sorted(done.roots) == ["guidance_scale=1.0", "guidance_scale=4.5"]
    assert check_export(run, str(tmp_path / "out"), GENEVAL) == []
    results = evaluate_images(tmp_path / "out" / done.roots[0])
    relative = [row | {"filename": row["filename"].split(f"{done.roots[0]}/")[1]} for row in results]
    with pytest.raises(Refused, match="--of FOLDER"):
        score_from(run, "geneval", str(written(tmp_path, "relative.jsonl", relative)))
    taken = score_from(run, "geneval", str(written(tmp_path, "relative.jsonl", relative)), of=done.roots[0])
    assert (taken.scored, taken.unscored) == (12, 12)
    score_from(
        run, "geneval", str(written(tmp_path, "second.jsonl", evaluate_images(tmp_path / "out" / done.roots[1])))
    )
    assert len(read_scores(run.store)["geneval"].table) == 24


def test_what_would_be_passed_over_is_named(run, tmp_path):
    folder = tmp_path / "out"
    export(run, str(folder), TO_GENEVAL)
    (folder / "00000" / "samples" / "0001.png").rename(folder / "00000" / "samples" / "0001.PNG")
    (folder / "00001" / "samples" / "0002.png.tmp").write_bytes(b"")
    (folder / "00002" / "metadata.jsonl").unlink()
    (folder / "00003").rename(folder / "prompt3")
    (folder / "00004" / "0000.png").write_bytes(b"")
    text = "\n".join(check(str(folder), GENEVAL, prompts_of(run, GENEVAL)))
    assert "00000/samples/0001.PNG: the scorer passes over it" in text
    assert "00001/samples/0002.png.tmp: the scorer takes it for an image" in text
    assert "00002/metadata.jsonl: is missing" in text
    assert "prompt3/metadata.jsonl: the scorer passes over it" in text
    assert "prompt 00003 ('a photo of a drum and a candle') has no folder" in text
    assert "00004/0000.png: the scorer passes over it" in text
    assert "00000/samples: has 1 images and others have 2" in text
    assert len(text.splitlines()) == 5 + 3 + 1 + 1, "nothing else"
    (folder / "00005" / "samples" / "0000.png").write_bytes(b"")
    assert "00005/samples/0000.png: is empty" in "\n".join(check(str(folder), GENEVAL, prompts_of(run, GENEVAL)))


def test_scores_of_another_folder_are_refused(run, tmp_path):
    with pytest.raises(Refused, match="not an output of geneval"):
        score_from(run, "geneval", str(written(tmp_path, "r.jsonl", [{"a": 1}])))
    export(run, str(tmp_path / "out"), TO_GENEVAL)
    row = {"filename": "elsewhere/x/y.png", "correct": True}
    with pytest.raises(Refused, match="names no image"):
        score_from(run, "geneval", str(written(tmp_path, "r.jsonl", [row])))
