"""The other benchmarks: to their scorers and back, by the scorers' own reading. Prompts are ours, in their formats."""

import csv
import glob
import json
import os
import os.path as osp
import re

import numpy as np
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
from tests.evaluate.rendered import SAMPLES, refound, rendered, written

REAL = os.environ.get("PARTIPROMPTS", "/work/shared/prompts/PartiPrompts.tsv")


def brightness(picture):
    return float(np.asarray(picture.convert("RGB")).mean() / 255)


def opened(path):
    with Image.open(path) as picture:
        return picture.convert("RGB")


def table(path, rows, delimiter=","):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def as_json(path, value):
    path.write_text(json.dumps(value))
    return path


class Bench:
    """A benchmark's run and its export."""

    def __init__(self, folder, name, files, **options):
        self.benchmark = benchmark_named(name)
        self.run = rendered(folder, name, files, **options)
        self.out = folder / "out"
        self.done = export(self.run, str(self.out), BenchmarkFolder(self.benchmark, "fake"))
        assert self.done.left_out == ()
        assert check_export(self.run, str(self.out), self.benchmark) == []
        refound(self.run, self.out, self.benchmark)

    def problems(self):
        return "\n".join(check(str(self.out), self.benchmark, prompts_of(self.run, self.benchmark)))

    def take(self, file, scorer=""):
        """Scores of the scorer's output, each image's own."""
        taken = score_from(self.run, self.benchmark.name, str(file))
        assert taken.unknown == ()
        found = read_scores(self.run.store)[scorer or self.benchmark.name].table
        return dict(zip(found["image_id"], found["score"], strict=True))

    def own(self, by=brightness):
        results = batchgen.open(self.run.store.url)
        return {one: by(results.image(one)) for one in results.to_pandas()["image_id"]}

    def frame(self):
        return batchgen.open(self.run.store.url).to_pandas()


ONEIG = [["category", "id", "prompt_en", "type", "prompt_length", "class"],
         ["Anime_Stylization", "000", "a drum in ink", "T", "short", "ink"],
         ["General_Object", "000", "a kettle", "NP", "short", ""],
         ["General_Object", "001", "a snail", "NP", "short", ""]]  # fmt: skip


def test_oneig_grids(tmp_path):
    bench = Bench(tmp_path, "oneig", [table(tmp_path / "OneIG-Bench.csv", ONEIG)], images=3)
    path = bench.out / "object" / "fake" / "001.webp"
    # The reference cuts a square grid and takes a tile that is all (0, 0, 0) for absent.
    tiles = [opened(path).crop((left, top, left + 32, top + 32)) for top in (0, 32) for left in (0, 32)]
    assert [tile.getextrema() == ((0, 0), (0, 0), (0, 0)) for tile in tiles] == [False, False, False, True]
    rows = bench.frame()
    ids = rows[rows["benchmark_id"] == "object_001"].sort_values("sample_index")["image_id"]
    for image_id, tile in zip(ids, tiles, strict=False):
        assert np.array_equal(np.asarray(tile), np.asarray(batchgen.open(bench.run.store.url).image(image_id)))
    scores = table(tmp_path / "alignment_prompt_score_EN_x.csv", [["", "fake"], ["object_001", "0.5"]])
    with pytest.raises(Refused, match="shows several images: that is a score of a prompt"):
        score_from(bench.run, "oneig", str(scores))


def test_oneig_scores_and_traps(tmp_path):
    bench = Bench(tmp_path, "oneig", [table(tmp_path / "OneIG-Bench.csv", ONEIG)], images=1)
    rows = [["", "fake"]]
    for folder, name in (("anime", "000"), ("object", "000"), ("object", "001")):
        (hit,) = glob.glob(f"{bench.out}/{folder}/fake/{name}*")  # alignment_score.py: exactly one, or it is dropped
        rows.append([f"{folder}_{name}", repr(brightness(opened(hit)))])
    scores = table(tmp_path / "alignment_prompt_score_EN_x.csv", rows)
    assert bench.take(scores, "oneig-alignment") == pytest.approx(bench.own())
    picture = opened(bench.out / "object" / "fake" / "000.webp")
    picture.save(bench.out / "object" / "fake" / "000.png")
    picture.save(bench.out / "object" / "fake" / "001.webp", lossless=False)
    picture.convert("RGBA").save(bench.out / "anime" / "fake" / "000.webp", lossless=True)
    picture.save(bench.out / "anime" / "fake" / "777.webp", lossless=True)
    said = bench.problems()
    assert "object_000: has 2 files" in said
    assert "001.webp: is WebP with loss" in said
    assert "anime/fake/777.webp: is of no prompt" in said
    assert len(said.splitlines()) in (3, 4), "Pillow writes opaque RGBA as RGB or as RGBA"


def test_unigenbench(tmp_path):
    points = json.dumps({"Testpoints": ["Style", "Attribute - Color"], "Testpoint Description": ["ink", "red"]})
    prompts = [["index", "prompt_en", "sub_dims_en"], *([str(at), f"a drum {at}", points] for at in (0, 7))]
    bench = Bench(tmp_path, "unigenbench", [table(tmp_path / "test_prompts_en.csv", prompts)])
    assert bench.frame()["seed"].tolist()[:4] == [3407, 3408, 3409, 3410]
    rows = [["index", "prompt", "testpoint", "output", "result_json", "img_path"]]
    for index in (0, 7):
        for j in range(4):
            path = osp.join(bench.out, "en", "fake", f"{index}_{j}.png")  # the reference's name; a missing one raises
            assert osp.exists(path)
            score = [int(brightness(opened(path)) > 0.5), 1]
            result = json.dumps({"score": score}, indent=4) if (index, j) != (7, 3) else ""
            rows.append([str(index), "", str(["Style", "Attribute - Color"]), "", result, path])
    wanted = bench.own(lambda picture: (float(brightness(picture) > 0.5) + 1) / 2)
    found = bench.take(table(tmp_path / "fake_en.csv", rows))
    missing = [one for one, score in found.items() if score != score]
    assert len(missing) == 1, "what could not be parsed is unscored"
    assert {one: score for one, score in found.items() if one not in missing} == {
        one: score for one, score in wanted.items() if one not in missing
    }
    (bench.out / "en" / "fake" / "7_2.png").unlink()
    assert bench.problems() == "en/fake/7_2.png: is missing, and the scorer ends there"


def test_tiif(tmp_path):
    prompts = [{"type": "2d+color", "short_description": f"drum {at}", "long_description": f"a long drum {at}"}
               for at in range(2)]  # fmt: skip
    asked = [{"type": "2d+color", "yn_question_list": ["red?", "left?"], "yn_answer_list": ["yes", "no"]}] * 2
    files = [written(tmp_path, "p_prompts.jsonl", prompts), written(tmp_path, "p_eval_prompts.jsonl", asked)]
    bench = Bench(tmp_path, "tiif", files)
    assert json.loads(bench.frame()["questions"][0])[1] == {
        "id": "1", "question": "left?", "answer": "no", "parents": [],
    }  # fmt: skip
    (tmp_path / "eval").mkdir()
    for desc in ("long_description", "short_description"):
        for idx in range(2):
            hits = glob.glob(osp.join(bench.out, "2d+color", "fake", desc, f"{idx}.*"))  # find_image_by_idx
            (path,) = [one for one in hits if one.lower().endswith((".png", ".jpg", ".jpeg", "webp"))]
            said = {"attribute": "2d+color", "desc": desc, "line_idx": idx, "gt_answers": ["yes", "no"]}
            said["model_pred"] = ["yes" if brightness(opened(path)) > 0.5 else "no", "no"]
            as_json(tmp_path / "eval" / f"{desc}-{idx}.json", said)
    assert bench.take(tmp_path / "eval") == bench.own(lambda picture: (float(brightness(picture) > 0.5) + 1) / 2)
    (bench.out / "2d+color" / "fake" / "long_description" / "1.png").rename(bench.out / "1.bmp")
    said = bench.problems()
    assert "fake: has no image of 2d+color-long-1" in said
    assert "1.bmp: the scorer passes over it" in said


def wise_prompts(folder, time="Time"):
    rows = [(1, "Cultural knowledge"), (500, time), (530, "Space" if time == "Time" else time), (999, "Chemistry")]
    return as_json(folder / "wise.json", [{"Prompt": f"prompt {one}", "Explanation": "", "Category": kind,
                                          "prompt_id": one} for one, kind in rows])  # fmt: skip


def test_wise(tmp_path):
    bench = Bench(tmp_path, "wise", [wise_prompts(tmp_path)])
    assert bench.frame()["category"].tolist() == ["culture", "time", "space", "chemistry"]
    lines = [{"prompt_id": one, "Subcategory": "", "score": int(brightness(opened(bench.out / f"{one}.png")) > 0.5)}
             for one in (1, 500, 530, 999)]  # fmt: skip
    assert bench.take(written(tmp_path, "x_scores_results.jsonl", lines)) == bench.own(
        lambda picture: float(brightness(picture) > 0.5)
    )
    (bench.out / "500.png").rename(bench.out / "0500.png")
    assert bench.problems() == (
        "500.png: is missing, and the scorer warns, and gives no total\n0500.png: the scorer passes over it"
    )


def test_wise_of_before(tmp_path):
    with pytest.raises(Refused, match="prompt 530 under space: it is of the other version"):
        import_benchmark("wise-legacy", [str(wise_prompts(tmp_path))], str(tmp_path / "m.parquet"))
    bench = Bench(tmp_path, "wise-legacy", [wise_prompts(tmp_path, "Knowledge of time")])
    assert bench.frame()["category"].tolist() == ["culture", "time", "time", "chemistry"]
    line = {"prompt_id": 530, "consistency": 2, "realism": 1, "aesthetic_quality": 0}
    (score,) = bench.take(written(tmp_path, "r.jsonl", [line])).values()
    assert score == pytest.approx((0.7 * 2 + 0.2 * 1) / 2)


def test_longtext(tmp_path):
    prompts = [
        {"prompt_id": one, "prompt": f"a sign {one}", "text": ["Fresh bread, today", "No. 7"]} for one in (3, 100)
    ]
    bench = Bench(tmp_path, "longtext", [written(tmp_path, "text_prompts.jsonl", prompts)])
    rows = []
    for path in sorted(glob.glob(f"{bench.out}/*.png")):
        number = int(osp.basename(path).split("_")[0])
        text = next(one["text"] for one in prompts if one["prompt_id"] == number)
        read = "fresh fresh BREAD! no cake" if brightness(opened(path)) > 0.5 else "No text"
        rows.append({"image": path, "prompt": "", "ocr_gt": text, "ocr_results": read})
    assert len(rows) == 8
    (tmp_path / "results").mkdir()
    written(tmp_path, "results/results_chunk0.jsonl", rows[:3])
    written(tmp_path, "results/results_chunk1.jsonl", rows[3:])
    # fresh, bread, today, no, 7: three of five are there, 'fresh' counts once; of 'no text' one.
    assert bench.take(tmp_path / "results") == bench.own(lambda one: 0.6 if brightness(one) > 0.5 else 0.2)
    (bench.out / "0003_2.png").rename(bench.out / "0080_2.png")
    (bench.out / "0100_1.png").rename(bench.out / "0100_1.jpg")
    said = bench.problems()
    assert "0080_2.png: the scorer ends there, as there is no prompt 80; the numbers have gaps" in said
    assert "0100_1.jpg: the scorer passes over it" in said
    assert "prompt 3: has 3 images" in said


def test_chinese_text_is_compared_by_characters(tmp_path):
    prompts = [{"prompt_id": 0, "prompt": "a sign", "text": "新鲜 面包。"}]
    bench = Bench(tmp_path, "longtext", [written(tmp_path, "text_prompts_zh.jsonl", prompts)])
    rows = [{"image": str(bench.out / "0000_1.png"), "ocr_gt": "新鲜 面包。", "ocr_results": "面 新，新"}]
    assert list(bench.take(written(tmp_path, "results_chunk0.jsonl", rows)).values()) == [0.5]


def test_corebench(tmp_path):
    checklist = [{"question": "Is it red?"}, {"question": "Is it a drum?"}]
    prompts = {f"C-MI-00{at}": {"Prompt": f"a drum {at}", "Checklist": checklist} for at in (1, 2)}
    bench = Bench(tmp_path, "corebench", [as_json(tmp_path / "C-MI.json", prompts)])
    folder = osp.join(bench.out, "fake", "C-MI")
    result = {}
    for name in sorted(one for one in os.listdir(folder) if one.lower().endswith(".png")):
        assert "-".join(name.split("-")[:3]) in prompts  # evaluate.py raises otherwise
        score = brightness(opened(osp.join(folder, name)))
        result[name.split(".")[0]] = prompts["C-MI-001"] | {"image_score": score}
    assert len(result) == 8
    result["mean_score"] = 0.5
    assert bench.take(as_json(tmp_path / "C-MI-judge.json", result)) == pytest.approx(bench.own())
    as_json(bench.out / "fake" / "C-MI-judge.json", result)
    os.rename(osp.join(folder, "C-MI-001-0.png"), osp.join(folder, "C-MI-009-0.png"))
    said = bench.problems()
    assert "with it the scorer skips its images" in said
    assert "has no prompt 'C-MI-009'" in said
    assert "prompt C-MI-001 has 3 images" in said


@pytest.mark.skipif(not osp.exists(REAL), reason="needs the real PartiPrompts")
def test_the_real_partiprompts(tmp_path):
    assert import_benchmark("partiprompts", [REAL], str(tmp_path / "m.parquet")).prompts == 1632


def test_partiprompts(tmp_path):
    bench = Bench(tmp_path, "partiprompts", [SAMPLES / "partiprompts.tsv"], images=2)
    assert all(re.fullmatch(r"\d{5}_[01]\.png", name) for name in os.listdir(bench.out))
    with pytest.raises(Refused, match="no scorer of its own"):
        bench.take(tmp_path)
    rows = [["path", "score"], *([name, brightness(opened(bench.out / name))] for name in os.listdir(bench.out))]
    score_from(bench.run, "csv", str(table(tmp_path / "mine.csv", rows)), "mine")
    found = read_scores(bench.run.store)["mine"].table
    assert dict(zip(found["image_id"], found["score"], strict=True)) == pytest.approx(bench.own())


def test_dsg(tmp_path):
    head = ["item_id", "text", "keywords", "proposition_id", "dependency", "category_broad", "category_detailed",
            "tuple", "question_natural_language"]  # fmt: skip
    rows = [["tifa_0", "a drum", "", str(one), str(one - 1), "", "", "", "Red?"] for one in (1, 2, 3)]
    bench = Bench(tmp_path, "dsg", [table(tmp_path / "dsg-1k-anns.csv", [head, *rows])])
    answers = [["item_id", "question", "question_id", "dependency_id", "answer"],
               ["tifa_0", "", "1", "0", "yes"], ["tifa_0", "", "2", "1", "no"],
               ["tifa_0", "", "3", "1,2", "yes"]]  # fmt: skip
    assert list(bench.take(table(tmp_path / "answers.csv", answers)).values()) == [pytest.approx(1 / 3)]


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("oneig", "p.csv", "category,id,prompt_en\nCooking,1,a pie\n", "without a known category"),
        ("unigenbench", "p.csv", "index,prompt_en\n", "is none of test_prompts_en"),
        ("tiif", "p.jsonl", '{"prompt": "a"}', "no text 'type'"),
        ("wise", "p.json", "{}", "no JSON list"),
        ("longtext", "p.jsonl", '{"prompt": "a"}', "no 'prompt_id' and 'text'"),
        ("corebench", "p.json", '{"1": {"Prompt": "a"}}', "is no id of three parts"),
        ("partiprompts", "p.tsv", "prompt\na\n", "no column Prompt"),
        ("dsg", "p.csv", "prompt\na\n", "no column item_id"),
    ],
)
def test_another_file_gets_one_message(tmp_path, name, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(Refused, match=rf"{file}[\s\S]*{message}[\s\S]*Expected: "):
        import_benchmark(name, [str(tmp_path / file)], str(tmp_path / "out.parquet"))


def test_a_benchmark_that_is_not_known():
    with pytest.raises(Refused, match=r"Did you mean geneval[\s\S]*There are geneval, geneval2, dpg"):
        benchmark_named("genevall")
