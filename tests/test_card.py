"""The dataset card and what lies beside it: true of the run as it is now, and silent about where it lies."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.evaluate.scores import About, write_part
from batchgen.finalize.metadata import Totals
from batchgen.finalize.proof import finalize, proven, renew_card
from batchgen.finalize.recipe import recipe
from batchgen.finalize.success import Success
from batchgen.job.file import job_from
from batchgen.look import doctor
from batchgen.look.results import Results
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.plan.retry import plan_retry
from batchgen.run.directory import Run
from batchgen.run.sealed import seal, unseal
from batchgen.storage.store import Store
from tests.in_process import render_here


def made(job, **options):
    return render_here(make_plan(prepare(job, **options))[0])


def card_of(run):
    return run.store.read("README.md").decode()


def front_of(run):
    return yaml.safe_load(card_of(run).split("---\n")[1])


def recipe_of(run):
    return yaml.safe_load(card_of(run).split("```yaml\n")[1].split("```")[0])


def test_it_says_what_there_is(make_job):
    rows = [{"prompt": "a"}, {"prompt": "word " * 90, "height": 32, "width": 64}, {"prompt": "fake:raise", "seed": 5}]
    run = made(make_job(rows, sampling={"num_images_per_prompt": 3}, errors={"max_failed_fraction": 1.0}))
    card = card_of(run)
    seeds = Results(run.store.url).to_pandas().query("status == 'ok'")["seed"]
    for line in (
        "\n6 images of 9 planned, 3 failed (RENDER_ERROR: 3).\n", "| prompts | 3 |",
        "| samples | up to 3 of a prompt |",
        f"| seeds | {seeds.min()} to {seeds.max()}; derived from 0, prompt and sample, where a row names none |",
        "| size (height × width) | 32 × 32: 3 images |", "| size (height × width) | 32 × 64: 3 images |",
        "| overflow | 3 images longer than CLIP-L reads (77 tokens) |", "| failed | RENDER_ERROR: 3 |",
        "| num_images_per_prompt | 3 |", "Not scored.",
    ):  # fmt: skip
        assert line in card
    assert "| cell |" not in card
    assert front_of(run)["size_categories"] == ["n<1K"]
    assert front_of(run)["configs"][0]["data_files"][0]["path"] == "data/*.parquet"


def test_it_is_true_after_an_extension(make_job):
    made(make_job(["a", "b"], sampling={"seeds": [7]}))
    job = make_job(["a", "b", "c"], sampling={"num_images_per_prompt": 2, "seeds": [7, 9]})
    run = made(job, extend=True)
    card = card_of(run)
    assert "\n6 images of 6 planned.\n" in card
    for line in (
        "| prompts | 3 |", "| samples | up to 2 of a prompt |", "| num_images_per_prompt | 2 |",
        "| seeds | 7 to 9; listed 7 and listed 7, 9, where a row names none |", "| seeds | [7, 9] |",
        "| plan | 2 images, first planned |", "| plan | 4 images, added by an extension |",
    ):  # fmt: skip
        assert line in card
    assert "| seed | " not in card, "seeds stand in its place"


def test_it_is_true_of_a_sweep_and_of_cells_that_were_added(make_job):
    made(make_job(["a", "b"], sweep={"guidance_scale": [1.0]}))
    run = made(make_job(["a", "b"], sweep={"guidance_scale": [1.0, 4.5]}), extend=True)
    card = card_of(run)
    for line in (
        "| samples | up to 1 of a prompt in each cell |", "| prompts | 2 |", "| cell | guidance_scale=1.0: 2 images |",
        "| cell | guidance_scale=4.5: 2 images |", "| guidance_scale | swept: 1.0, 4.5 |",
    ):  # fmt: skip
        assert line in card


def test_it_is_true_after_a_retry(make_job, tmp_path):
    job = make_job(["a", f"b fake:until={tmp_path}/there"], errors={"max_failed_fraction": 1.0})
    run = made(job)
    assert "| failed | RENDER_ERROR: 1 |" in card_of(run)
    (tmp_path / "there").write_text("")
    again = render_here(plan_retry(run))
    assert "\n2 images of 2 planned.\n" in card_of(again)
    assert "| failed |" not in card_of(again)
    assert "| plan | 1 images, tried again after they failed |" in card_of(again)


def test_the_job_in_it_renders_the_same_images(make_job, tmp_path):
    job = make_job([{"prompt": "a"}, {"prompt": "b"}], sampling={"seeds": [3, 4], "num_images_per_prompt": 2},
                   sweep={"cells": {"low": {"guidance_scale": 1.0}, "high": {"negative_prompt": ""}}},
                   output={"image_format": "webp", "image_quality": 80})  # fmt: skip
    run = made(job)
    said = recipe_of(run)
    assert said["input"]["path"] == "prompts-1.jsonl"
    said["input"]["path"] = str(tmp_path / said["input"]["path"])
    other = made(job_from(said | {"output": said["output"] | {"path": str(tmp_path / "other")}}))
    assert other.plans[0].fingerprint == run.plans[0].fingerprint
    kept = ["image_id", "pixel_sha256"]
    assert Results(other.store.url).to_pandas()[kept].equals(Results(run.store.url).to_pandas()[kept])


def test_the_job_of_the_demonstration_names_no_place(tmp_path):
    from batchgen.demo import demo_job

    run = make_plan(prepare(demo_job(str(tmp_path / "run"))))[0]
    assert yaml.safe_load(recipe(run))["model"] == {"preset": "demo"}


def test_neither_says_where_anything_lies(make_job, tmp_path):
    run = made(make_job(["a"]))
    said = card_of(run) + run.store.read("croissant.json").decode()
    assert str(tmp_path) not in said
    assert tmp_path.name not in said
    assert str(Path.home()) not in said


def test_of_paths_only_the_last_part_is_left(make_job):
    run = make_plan(prepare(make_job(["a"])))[0]
    stored = run.plans[0].stored
    stored["input"]["path"] = ["s3://secret-bucket/deep/a.parquet?versionId=7", "/home/ann/b.csv", "C:\\ann\\c.csv"]
    stored["model"] |= {
        "pretrained_model_name_or_path": "/home/ann/models/tuned/", "vae": "~/ann/vae.safetensors", "mirror": "s3://secret",
        "adapters": {"ink": {"path": "s3://secret-bucket/ink.safetensors", "scale": 0.5}}, "text_encoder_3": None,
    }  # fmt: skip
    stored["refine"] = {
        "scale": 1.5,
        "model": {"preset": "sd3.5-large", "pretrained_model_name_or_path": "/home/ann/two"},
    }
    text = recipe(run)
    assert not [word for word in ("ann", "secret", "bucket", "home", "deep", "versionId") if word in text]
    said = yaml.safe_load(text)
    assert said["input"]["path"] == ["a.parquet", "b.csv", "c.csv"]
    assert said["model"] | {"preset": "fake"} == {
        "preset": "fake", "pretrained_model_name_or_path": "tuned", "vae": "vae.safetensors", "text_encoder_3": None,
        "adapters": {"ink": {"path": "ink.safetensors", "scale": 0.5}},
    }  # fmt: skip
    assert said["refine"]["model"] == {"preset": "sd3.5-large", "pretrained_model_name_or_path": "two"}


# --- scores for what is not safe for work


def nsfw(run, *scores, name="nsfw-image_detection"):
    ids = Results(run.store.url).to_pandas()["image_id"]
    about = About(scorer=name, version="1", settings={"model": "/home/ann/models/nsfw_image_detection"})
    write_part(run.store, about, [{"image_id": one, "score": value} for one, value in zip(ids, scores, strict=False)])


def test_it_says_that_pictures_were_scored_since(make_job):
    run = made(make_job(["a", "b", "c"]))
    assert renew_card(run) is None
    nsfw(run, 0.1, 0.9)
    assert renew_card(run) is True
    said = "`nsfw-image_detection` (nsfw_image_detection) has scored 2 of 3 images; 1 of them have 0.5 or more."
    assert said in card_of(run)
    assert "Not scored." not in card_of(run)
    report = doctor.examine(run)
    assert (report.problems, report.notes) == ([], [])
    assert renew_card(run) is None
    larger = made(make_job(["a", "b", "c", "d"]), extend=True)
    assert "has scored 2 of 4 images" in card_of(larger)


def test_a_card_that_somebody_edited_stays_theirs(make_job):
    run = made(make_job(["a"]))
    edited = card_of(run) + "\nMine.\n"
    run.store.replace("README.md", edited.encode())
    nsfw(run, 0.9)
    assert renew_card(run) is False
    assert card_of(run) == edited
    assert proven(run)


def test_the_command_that_scores_says_so(make_job, tmp_path):
    run = made(make_job(["a", "b"]))
    ids = Results(run.store.url).to_pandas()["image_id"]
    (tmp_path / "scores.csv").write_text("image_id,nsfw\n" + "".join(f"{one},0.75\n" for one in ids))

    def said(name):
        words = ["score", run.store.url, str(tmp_path / "scores.csv"), "--from", "csv", "--name", name]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done.output

    assert "README.md" not in said("sharpness")
    assert "README.md says now how they were scored" in said("safety")
    assert "has scored 2 of 2 images; 2 of them have 0.5 or more" in card_of(run)
    run.store.replace("README.md", b"# Mine\n")
    assert "was edited, so it stays as it is" in said("nsfw")


def test_damaged_scores_count_as_none(make_job):
    run = made(make_job(["a"]))
    nsfw(run, 0.9)
    for path in Path(run.store.url, "scores").rglob("*.parquet"):
        path.write_bytes(b"no table")
    assert renew_card(run) is True
    assert "has scored 0 of 1 images" in card_of(run)


def test_books_that_counted_less_are_sound_and_counted_anew(make_job):
    run = made(make_job(["a", "b"]))
    said = json.loads(unseal(run.store.read("_SUCCESS"), "codes"))
    for name in ("sizes", "cells", "overflow", "prompts", "samples", "seeds", "croissant"):
        del said[name]
    run.store.replace("_SUCCESS", seal(json.dumps(said, indent=1, sort_keys=True).encode()))
    assert Success.read(run).totals.sizes == {}
    report = doctor.examine(run)
    assert (report.problems, report.notes) == ([], [])
    nsfw(run, 0.1)
    assert renew_card(run) is True
    assert "| size (height × width) | 32 × 32: 2 images |" in card_of(run)
    assert Success.read(run).totals.sizes == {"32 × 32": 2}


@pytest.mark.parametrize("change", [{"sizes": {"32 × 32": 7}}, {"samples": 2}, {"seeds": [1, 2]}, {"seeds": [1]}])
def test_other_counts_are_named(make_job, change):
    run = made(make_job(["a", "b"]))
    said = json.loads(unseal(run.store.read("_SUCCESS"), "codes")) | change
    run.store.replace("_SUCCESS", seal(json.dumps(said, indent=1, sort_keys=True).encode()))
    assert any("_SUCCESS" in problem for problem in doctor.examine(run).problems)


# --- Croissant


@pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib.*", "ignore:The inplace keyword")  # its libraries'
def test_croissant_is_valid_and_reads_the_pictures(make_job, caplog):
    import mlcroissant  # seconds to import

    rows = [{"prompt": "a", "topic": "t", "weight": 0.5, "count": 3}, {"prompt": "b", "topic": None}]
    run = made(make_job(rows))
    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(jsonld=Path(run.store.url, "croissant.json"))
    assert not dataset.metadata.issues.errors
    fields = {one.name.split("/")[-1] for one in dataset.metadata.record_sets[0].fields}
    assert {"image", "prompt", "seed", "topic", "weight", "phash"} <= fields
    found = list(dataset.records("images"))
    assert {record["images/prompt"] for record in found} == {b"a", b"b"}
    assert {record["images/image"].size for record in found} == {(32, 32)}
    (part,) = [one for one in dataset.metadata.distribution if one.id.startswith("metadata/")]
    assert part.sha256 == Success.read(run).metadata[0].sha256


def test_croissant_that_is_gone_or_edited_is_noted(make_job):
    run = made(make_job(["a"]))
    run.store.replace("croissant.json", b"{}")
    assert doctor.examine(run).notes == ["croissant.json: was edited after it was written"]
    run.store.delete("croissant.json")
    report = doctor.examine(run)
    assert (report.problems, report.notes) == ([], ["croissant.json: is gone; it belongs to the dataset card"])
    run.store.delete("_SUCCESS")
    finalize(Run.open(Store.open(run.store.url)))
    assert doctor.examine(run).notes == []


def test_totals_are_the_same_in_whatever_pieces_they_are_counted(make_job):
    run = made(make_job([{"prompt": f"p{at}", "height": 32 * (1 + at % 2), "width": 32} for at in range(9)]))
    whole, pieces = Totals(), Totals()
    for table in Results(run.store.url).tables():
        whole.add(table)
        for at in range(len(table)):
            pieces.add(table.slice(at, 1))
    whole.device_seconds = pieces.device_seconds = 0.0
    assert whole == pieces
