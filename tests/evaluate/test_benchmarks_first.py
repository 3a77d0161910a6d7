"""GenEval 2, DPG-Bench, GenAI-Bench and T2I-CompBench: to their scorers and back, by the scorers' own reading."""

import csv
import json
import os
import os.path as osp
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import batchgen
from batchgen.errors import Refused
from batchgen.evaluate.benchmarks import benchmark_named
from batchgen.evaluate.importing import import_benchmark
from batchgen.evaluate.official import score_from
from batchgen.evaluate.scores import read_scores
from batchgen.export.benchmark_folder import BenchmarkFolder
from batchgen.export.checking import check, check_export, prompts_of
from batchgen.export.writer import export
from batchgen.run.images import is_in
from tests.evaluate.rendered import refound, rendered, written

GENEVAL2 = [
    {
        "prompt": f"{word} red kettles",
        "atom_count": 3,
        "vqa_list": [["How many kettles are in the image?", word], ["Are the kettles red?", "Yes"]],
        "skills": ["count", "attribute"],
    }
    for word in ("two", "three", "four")
]
DPG_COLUMNS = ["item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed",
               "tuple", "question_natural_language"]  # fmt: skip


def brightness(picture):
    return float(np.asarray(picture.convert("RGB")).mean() / 255)


def dpg_rows():
    for item in ("7", "kettle12"):
        yield [item, f"a {item}", "", "1", "0", "entity", "whole", "entity - whole (kettle)", "Is there a kettle?"]
        yield [item, f"a {item}", "", "2", "1", "attribute", "color", "attribute - color (red)", "Is it red?"]


@pytest.fixture
def dpg_table(tmp_path):
    with open(tmp_path / "dpg_bench.csv", "w", newline="") as file:
        csv.writer(file).writerows([DPG_COLUMNS, *dpg_rows()])
    return tmp_path / "dpg_bench.csv"


def exported(run, name, folder):
    done = export(run, str(folder), BenchmarkFolder(benchmark_named(name), "fake"))
    assert check_export(run, str(folder), benchmark_named(name)) == []
    if done.roots == ("",):
        refound(run, folder, benchmark_named(name))
    return done


def own_scores(run, by):
    """image_id → what a judge of pixels says of the stored picture."""
    opened = batchgen.open(run.store.url)
    return {one: by(opened.image(one)) for one in opened.to_pandas()["image_id"]}


def kept(run, name):
    table = read_scores(run.store)[name].table
    return dict(zip(table["image_id"], table["score"], strict=True))


def test_geneval2(tmp_path):
    run = rendered(tmp_path, "geneval2", [written(tmp_path, "geneval2_data.jsonl", GENEVAL2)])
    questions = json.loads(batchgen.open(run.store.url).to_pandas()["questions"][0])
    assert questions[0] == {"id": "0", "question": GENEVAL2[0]["vqa_list"][0][0], "answer": "two", "parents": []}
    assert "| prompts | geneval2, licence: CC BY-NC 4.0, sha256 of" in (tmp_path / "run" / "README.md").read_text()
    out = tmp_path / "out"
    exported(run, "geneval2", out)
    # evaluation.py: a dict of prompts, a missing key raises, one list of scores for each line of the data.
    paths = json.loads((out / "image_paths.json").read_text())
    judge = [[brightness(Image.open(out / paths[row["prompt"]])), 1.0001] for row in GENEVAL2]
    (tmp_path / "scores.json").write_text(json.dumps(judge))
    assert score_from(run, "geneval2", str(tmp_path / "scores.json")).scored == 3
    assert kept(run, "geneval2") == pytest.approx(own_scores(run, lambda picture: brightness(picture) ** 0.5))
    assert read_scores(run.store)["geneval2"].about.settings["licence"] == "CC BY-NC 4.0"
    (tmp_path / "short.json").write_text(json.dumps(judge[:2]))
    with pytest.raises(Refused, match="has 2 lists, and the export 3 images"):
        score_from(run, "geneval2", str(tmp_path / "short.json"))
    (out / paths[GENEVAL2[1]["prompt"]]).unlink()
    (out / "images" / "stray.png").write_bytes(b"")
    prompts = prompts_of(run, benchmark_named("geneval2"))
    problems = check(str(out), benchmark_named("geneval2"), prompts)
    assert [one.split(":")[0] for one in problems] == ["images/00001.png", "images/stray.png"]


def test_several_seeds_of_a_benchmark_that_takes_one_image_a_prompt(tmp_path):
    run = rendered(tmp_path, "geneval2", [written(tmp_path, "geneval2_data.jsonl", GENEVAL2)], images=2)
    out = tmp_path / "out"
    assert exported(run, "geneval2", out).roots == ("sample-0", "sample-1")
    (tmp_path / "scores.json").write_text(json.dumps([[0.25]] * 3))
    with pytest.raises(Refused, match="--of FOLDER"):
        score_from(run, "geneval2", str(tmp_path / "scores.json"))
    assert score_from(run, "geneval2", str(tmp_path / "scores.json"), of="sample-1").scored == 3
    frame = batchgen.open(run.store.url).to_pandas()
    assert set(kept(run, "geneval2")) == set(frame[frame["sample_index"] == 1]["image_id"])


def dpg_scorer(folder, table, resolution, pic_num=4):
    """compute_dpg_bench.py of ELLA, 3c228f1: its keys, its crops, its dependencies and its lines; the judge is ours."""
    questions = {}
    with open(table, newline="") as file:
        for row in csv.DictReader(file):
            questions.setdefault(row["item_id"], {})[int(row["proposition_id"])] = [
                int(part.strip()) for part in row["dependency"].split(",")
            ]
    corners = [(0, 0), (resolution, 0), (0, resolution), (resolution, resolution)][:pic_num]
    lines = []
    for name in os.listdir(folder):
        image, dependency = Image.open(osp.join(folder, name)), questions[osp.basename(name).split(".")[0]]
        scores = []
        for left, top in corners:
            tile = image.crop((left, top, left + resolution, top + resolution))
            answers = {qid: float(brightness(tile) * 7 * qid % 1 > 0.5) for qid in dependency}
            for qid, parents in dependency.items():
                if any(parent and answers[parent] == 0 for parent in parents):
                    answers[qid] = 0
            scores.append(sum(answers.values()) / len(answers))
        lines.append(", ".join([osp.join(folder, name), *map(str, scores), str(sum(scores) / len(scores))]))
    return lines


def test_dpg(tmp_path, dpg_table):
    run = rendered(tmp_path, "dpg", [dpg_table])
    out = tmp_path / "out"
    done = exported(run, "dpg", out)
    assert (sorted(os.listdir(out)), done.images) == (["7.png", "kettle12.png"], 8)
    grid = Image.open(out / "7.png")
    opened = batchgen.open(run.store.url)
    frame = opened.to_pandas()
    first = frame[frame["benchmark_id"] == "7"].sort_values("sample_index")["image_id"]
    corners = [(0, 0), (32, 0), (0, 32), (32, 32)]
    for image_id, (left, top) in zip(first, corners, strict=True):
        tile = grid.crop((left, top, left + 32, top + 32))
        assert np.array_equal(np.asarray(tile), np.asarray(opened.image(image_id))), "row by row, without loss"
    lines = dpg_scorer(str(out), dpg_table, 32)
    total = np.mean([float(line.rsplit(", ", 1)[1]) for line in lines])
    (tmp_path / "results.txt").write_text(
        "\n".join([*lines, "Model: out", "L1 category scores:", "\tentity: 50.0", ""])
    )
    taken = score_from(run, "dpg", str(tmp_path / "results.txt"))
    assert (taken.scored, taken.unknown) == (8, ())
    scores = frame.merge(read_scores(run.store)["dpg"].table, on="image_id")
    assert scores.groupby("benchmark_id")["score"].mean().mean() == pytest.approx(total)
    assert json.loads(frame["questions"][0])[1]["parents"] == ["1"]


def test_dpg_folders_that_would_be_misread(tmp_path, dpg_table):
    run = rendered(tmp_path, "dpg", [dpg_table])
    dpg, out = benchmark_named("dpg"), tmp_path / "out"
    exported(run, "dpg", out)
    Image.new("RGB", (32, 64)).save(out / "7.jpg")
    (out / "dpg-bench_20260101-000000_results.txt").write_text("")
    (out / "kettle12.png").write_bytes(b"no picture")
    (out / "notes.png").write_bytes(b"")
    text = "\n".join(check(str(out), dpg, prompts_of(run, dpg)))
    assert "7.png: is the second image of prompt 7" in text
    assert "32 × 64 (7.jpg): is no grid" in text
    assert "--res-path" in text
    assert "kettle12.png: is no picture" in text
    assert "no prompt is called 'notes'" in text
    assert "prompt kettle12 has no image" in text


def test_a_dpg_grid_that_lacks_an_image_is_not_written(tmp_path):
    rows = [DPG_COLUMNS, *dpg_rows()][:3]
    rows[1][1] = rows[2][1] = "a kettle"
    with open(tmp_path / "dpg_bench.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    run = rendered(tmp_path, "dpg", [tmp_path / "dpg_bench.csv"], images=3)
    with pytest.raises(Refused, match="DPG-Bench takes 4 images of each prompt"):
        export(run, str(tmp_path / "out"), BenchmarkFolder(benchmark_named("dpg"), "fake"))


def test_genai_bench(tmp_path):
    prompts = {f"{at:05}": {"prompt": f"a snail on drum {at}", "models": {}} for at in range(4)}
    (tmp_path / "genai_image.json").write_text(json.dumps(prompts))
    (tmp_path / "genai_skills.json").write_text(json.dumps({"basic": [0, 1], "advanced": [2], "counting": [2]}))
    files = [tmp_path / "genai_image.json", tmp_path / "genai_skills.json"]
    run = rendered(tmp_path, "genai-bench", files)
    assert batchgen.open(run.store.url).to_pandas()["category"].tolist() == ["basic", "basic", "advanced", "all"]
    out = tmp_path / "out"
    exported(run, "genai-bench", out)
    # evaluate.py: f"{output_dir}/{gen_model}/{prompt_idx}.jpeg" for each key of the dataset, asserted to be there.
    paths = [osp.join(out, "fake", f"{key}.jpeg") for key in prompts]
    assert all(is_in(Path(path).read_bytes(), "jpeg") for path in paths)
    scores = [[brightness(Image.open(path))] for path in paths]
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    score_from(run, "genai-bench", str(tmp_path / "scores.json"))
    assert kept(run, "genai-bench") == pytest.approx(own_scores(run, brightness), abs=0.02), "JPEG loses a little"
    (out / "fake" / "00002.jpeg").rename(out / "fake" / "00002.jpg")
    problems = check(str(out), benchmark_named("genai-bench"), prompts_of(run, benchmark_named("genai-bench")))
    assert [one.split(":")[0] for one in problems] == ["fake/00002.jpeg", "fake/00002.jpg"]


def compbench_order(folder):
    """BLIP_vqa.py, 1b70949: names in order of their last number, and the text before the first '_' as the prompt."""
    names = os.listdir(folder)
    names.sort(key=lambda name: int(name.split("_")[-1].split(".")[0]))
    return [(name, name.split("_")[0]) for name in names]


def test_t2i_compbench(tmp_path):
    (tmp_path / "color_val.txt").write_bytes(b"a red drum\r\na blue snail\r\n")
    (tmp_path / "non_spatial_val.txt").write_bytes(b"a snail plays a drum\r\nit rains\r\n")
    run = rendered(tmp_path, "t2i-compbench", [tmp_path / "color_val.txt", tmp_path / "non_spatial_val.txt"])
    frame = batchgen.open(run.store.url).to_pandas()
    assert frame[frame["benchmark_id"] == "color-000"]["seed"].tolist() == list(range(42, 52)), "its own seeds"
    out = tmp_path / "out"
    exported(run, "t2i-compbench", out)
    names = compbench_order(out / "color" / "samples")
    assert [prompt for _, prompt in names] == ["a red drum"] * 10 + ["a blue snail"] * 10
    results = [
        {"question_id": at, "answer": f"{brightness(Image.open(out / 'color' / 'samples' / name)):.4f}"}
        for at, (name, _) in enumerate(names)
    ]
    (tmp_path / "vqa_result.json").write_text(json.dumps(results))
    with pytest.raises(Refused, match=r"20 of color, 20 of non_spatial[\s\S]*--of FOLDER"):
        score_from(run, "t2i-compbench", str(tmp_path / "vqa_result.json"))
    assert score_from(run, "t2i-compbench", str(tmp_path / "vqa_result.json"), of="color").scored == 20
    own = own_scores(run, brightness)
    assert kept(run, "t2i-compbench") == pytest.approx({one: own[one] for one in kept(run, "t2i-compbench")}, abs=1e-4)
    (out / "color" / "samples" / "grid.png").write_bytes(b"")
    (out / "color" / "samples" / "a red drum_000003.png").rename(out / "color" / "samples" / "a dog_000003.png")
    text = "\n".join(
        check(str(out), benchmark_named("t2i-compbench"), prompts_of(run, benchmark_named("t2i-compbench")))
    )
    assert "grid.png: the scorer ends there" in text
    assert "would be asked about 'a dog'" in text
    assert "'a red drum' has 9 images" in text


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("geneval2", "p.jsonl", '{"prompt": "a", "tag": "colors", "include": []}', "no 'vqa_list'"),
        ("dpg", "p.csv", "prompt,id\na,1\n", "no column item_id"),
        ("dpg", "p.txt", "a cat", "0 of the files are .csv"),
        ("genai-bench", "p.json", "[1]", "no JSON object of prompts by their number"),
        ("t2i-compbench", "prompts.txt", "a cat", "is none of color_val.txt"),
        ("t2i-compbench", "color_val.txt", "a_cat", "cannot be the name of a file"),
    ],
)
def test_another_file_gets_one_message(tmp_path, name, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(Refused, match=rf"{file}[\s\S]*{message}[\s\S]*Expected: "):
        import_benchmark(name, [str(tmp_path / file)], str(tmp_path / "out.parquet"))


def test_files_of_prompts_are_what_counts_for_dpg(tmp_path, dpg_table):
    (tmp_path / "prompts").mkdir()
    for item in ("7", "kettle12"):
        (tmp_path / "prompts" / f"{item}.txt").write_text(f"the prompt of {item}\n")
    said = import_benchmark("dpg", [str(dpg_table), str(tmp_path / "prompts")], str(tmp_path / "m.parquet"))
    assert said.prompts == 2
    assert pq.read_table(tmp_path / "m.parquet")["prompt"].to_pylist() == ["the prompt of 7", "the prompt of kettle12"]
