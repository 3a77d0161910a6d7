"""doctor.py: a sound run is proven, and every kind of damage is found and named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.errors import Infrastructure
from batchgen.finalize import proof
from batchgen.job.file import job_from
from batchgen.look import again, doctor
from batchgen.look.status import status_of
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run import images
from batchgen.run.directory import Run
from batchgen.run.sealed import unseal
from batchgen.run.shard_file import Footer, to_bytes
from batchgen.storage.store import Store
from tests.in_process import render_here


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A run of three shards, rendered once for all tests of this file."""
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "prompts.jsonl").write_text("\n".join(f'{{"prompt": "prompt {i}", "note": "n{i}"}}' for i in range(12)))
    job = job_from(
        {
            "input": {"path": str(folder / "prompts.jsonl")},
            "model": {"preset": "fake"},
            "sampling": {"height": 32, "width": 32},
            "output": {"path": str(folder / "run"), "images_per_shard": 4},
        }
    )
    render_here(make_plan(prepare(job))[0])
    return folder / "run"


@pytest.fixture
def out(rendered, tmp_path):
    return shutil.copytree(rendered, tmp_path / "run")


def problems(out):
    return doctor.examine(Run.open(Store.open(str(out)))).problems


def shard(out, number):
    return out / "data" / f"shard-{number:06}.parquet"


def test_a_sound_run_is_proven(out):
    report = doctor.examine(Run.open(Store.open(str(out))))
    assert (report.problems, report.planned, report.images, report.failed) == ([], 12, 12, 0)


def test_a_deleted_shard(out):
    shard(out, 1).unlink()
    (problem,) = problems(out)
    assert problem.startswith("data/shard-000001.parquet: is missing (4 rows)")


def test_a_truncated_shard(out):
    data = shard(out, 1).read_bytes()
    shard(out, 1).write_bytes(data[: len(data) // 2])
    (problem,) = problems(out)
    assert problem.startswith("data/shard-000001.parquet: is damaged")


def test_an_empty_shard(out):
    shard(out, 1).write_bytes(b"")
    (problem,) = problems(out)
    assert problem.startswith("data/shard-000001.parquet: is damaged")


def test_a_shard_added_twice(out):
    shutil.copy(shard(out, 1), shard(out, 7))
    (problem,) = problems(out)
    assert problem.startswith("data/shard-000007.parquet: belongs to no plan")


def test_a_shard_under_the_name_of_another(out):
    shutil.copy(shard(out, 1), shard(out, 2))
    found = problems(out)
    assert any("is shard 1 of plan" in problem for problem in found)
    assert sum("is committed more than once" in problem for problem in found) == 4


@pytest.mark.parametrize("where", [0.02, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_flipped_byte_anywhere(out, where):
    data = bytearray(shard(out, 1).read_bytes())
    data[int(len(data) * where)] ^= 0x10
    shard(out, 1).write_bytes(bytes(data))
    found = problems(out)
    assert found
    assert all("data/shard-000001.parquet" in problem for problem in found)


def test_a_foreign_file_in_data(out):
    (out / "data" / "notes.txt").write_text("x")
    (problem,) = problems(out)
    assert problem.startswith("data/notes.txt: belongs to no plan")


def test_a_damaged_plan(out):
    (plan_file,) = (out / ".batchgen" / "plan").glob("*/rows-00000.parquet")
    data = bytearray(plan_file.read_bytes())
    data[100] ^= 1
    plan_file.write_bytes(bytes(data))
    assert any("is not what was planned" in problem for problem in problems(out))


def test_pixels_that_changed_behind_a_valid_file(out):
    """Somebody rewrote a shard with care: seal and checksums are right, pixels are not those that were rendered."""
    footer = Footer.from_metadata(pq.read_schema(shard(out, 1)).metadata)
    table = pq.read_table(shard(out, 1))
    pictures = table["image"].to_pylist()
    pictures[0], pictures[1] = pictures[1], pictures[0]
    swapped = table.set_column(0, table.schema.field(0), pa.array(pictures, table.schema.field(0).type))
    shard(out, 1).write_bytes(to_bytes(swapped, footer, 100_000))
    assert sum("has other pixels than were rendered" in problem for problem in problems(out)) == 2


def resealed(out, number, change):
    """Rewrite a data file with care, as a tool would: table and footer are changed, seal and checksums are right."""
    path = shard(out, number)
    table, footer = change(pq.read_table(path), Footer.from_metadata(pq.read_schema(path).metadata))
    path.write_bytes(to_bytes(table, footer, 100_000))


def with_column(table, name, values):
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompt", "another"), ("seed", 7), ("guidance_scale", 1.5), ("note", "x"), ("tokens_t5", 3), ("cell", "y")],
)
def test_a_planned_column_with_other_values(out, name, value):
    resealed(out, 1, lambda table, footer: (with_column(table, name, [value] * len(table)), footer))
    assert any(f"data/shard-000001.parquet: column {name} is not as it was planned" in line for line in problems(out))


def test_a_column_that_no_plan_has(out):
    resealed(out, 1, lambda table, footer: (table.append_column("extra", pa.array([1] * len(table))), footer))
    assert any("column extra is not as it was planned" in line for line in problems(out))


def test_a_picture_that_was_replaced_together_with_its_digest(out):
    pixels = np.zeros((32, 32, 3), np.uint8)

    def change(table, footer):
        pictures, digests = table["image"].to_pylist(), table["pixel_sha256"].to_pylist()
        pictures[0]["bytes"], digests[0] = images.encode(pixels, "png"), images.pixel_sha256(pixels)
        table = with_column(with_column(table, "image", pictures), "pixel_sha256", digests)
        return table, replace(footer, pictures=None)

    resealed(out, 1, change)
    (problem,) = problems(out)
    assert problem.startswith("metadata/part-00000.parquet: column pixel_sha256 is not that of")


def test_a_picture_in_another_format_than_its_name(out):
    def change(table, footer):
        pictures = table["image"].to_pylist()
        pictures[0]["bytes"] = images.encode(images.decode(pictures[0]["bytes"]), "webp", 100)
        return with_column(table, "image", pictures), replace(footer, pictures=None)

    resealed(out, 1, change)
    assert any("is no png, as the job asked for" in line for line in problems(out))


def test_swapped_pictures_of_a_format_that_loses_bits(make_job):
    job = make_job(["a", "b"], output={"image_format": "webp"})
    run = render_here(make_plan(prepare(job))[0])

    def change(table, footer):
        pictures = table["image"].to_pylist()
        pictures[0]["bytes"], pictures[1]["bytes"] = pictures[1]["bytes"], pictures[0]["bytes"]
        return with_column(table, "image", pictures), footer

    assert doctor.examine(run).problems == []
    resealed(Path(job.output.path), 0, change)
    assert any("its pictures are not those that were rendered" in line for line in doctor.examine(run).problems)


@pytest.mark.parametrize(
    "change",
    [{"failures": 5}, {"failures": [{}]}, {"constants": []}, {"constants": {}}, {"finished_at": float("nan")},
     {"images": "4"}, {"plan": None}, {"shard": {}}, {"images": -1}, {"finished_at": 10**400}],
)  # fmt: skip
def test_a_crafted_footer_is_named_and_ends_in_no_traceback(out, change):
    path = shard(out, 1)
    table, footer = pq.read_table(path), Footer.from_metadata(pq.read_schema(path).metadata)

    class Crafted:
        def to_json(self):
            return json.dumps(json.loads(footer.to_json()) | change)

    path.write_bytes(to_bytes(table, Crafted(), 100_000))
    run = Run.open(Store.open(str(out)))
    if change != {"constants": {}}:  # what a doctor of one file cannot know
        assert any(line.startswith("data/shard-000001.parquet: ") for line in problems(out))
        assert status_of(run).committed_shards == 2
    run.store.delete("_SUCCESS")
    with pytest.raises(Infrastructure, match=r"data/shard-000001\.parquet"):
        proof.finalize(run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fingerprint": "0" * 32}, "its fingerprint is not that of its facts"),
        ({"shards": 4}, "says 4 shards, and its files hold 3"),
        ({"images": 11}, "says 11 images, and its files hold 12"),
        ({"skipped_images": 1}, "says 1 skipped images, and its files hold 0"),
        ({"generation": 1}, "says that it is generation 1"),
    ],
)
def test_a_plan_that_contradicts_its_files(out, change, told):
    path = out / ".batchgen" / "plan-000.json"
    path.write_text(json.dumps(json.loads(unseal(path.read_bytes(), "layout")) | change))
    assert any(line.startswith(".batchgen/plan-000.json: ") and told in line for line in problems(out))


def test_rerendering_notices_other_pixels(out):
    run = Run.open(Store.open(str(out)))
    report = doctor.Report()
    again.rerender(run, 4, report)
    assert (report.rerendered, report.problems) == (4, [])
    run.plans[0] = replace(run.plans[0], model=replace(run.plans[0].model, digest="other weights"))
    again.rerender(run, 2, report)
    assert sum("renders to other pixels" in problem for problem in report.problems) == 2


def test_a_damaged_plan_does_not_blame_the_pictures(out):
    (plan_file,) = (out / ".batchgen" / "plan").glob("*/rows-00000.parquet")
    plan_file.write_bytes(plan_file.read_bytes()[:-50])
    (problem,) = problems(out)
    assert problem.endswith("rows-00000.parquet: is not what was planned (sha256 differs)")


def test_a_missing_index(out):
    next((out / ".batchgen" / "plan").glob("*/index.parquet")).unlink()
    assert any("index.parquet: is missing" in problem for problem in problems(out))


def test_a_shard_below_another_folder_is_no_shard(out):
    (out / "data" / "bad").mkdir()
    shard(out, 1).rename(out / "data" / "bad" / "shard-000001.parquet")
    found = problems(out)
    assert len(found) == 2
    assert found[0].startswith("data/shard-000001.parquet: is missing")
    assert found[1].startswith("data/bad/shard-000001.parquet: belongs to no plan")
    assert Run.open(Store.open(str(out))).committed() == {0, 2}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("metadata/part-00000.parquet", "metadata/part-00000.parquet: is missing"),
        ("README.md", "README.md: the dataset card is missing"),
    ],
)
def test_a_deleted_record_is_found_and_written_again(out, path, text):
    (out / path).unlink()
    (problem,) = problems(out)
    assert problem.startswith(text)
    run = Run.open(Store.open(str(out)))
    assert proof.proven(run) is None, "so that the render command writes it again"
    proof.finalize(run)
    assert problems(out) == []


def test_damaged_and_foreign_metadata(out):
    part = out / "metadata" / "part-00000.parquet"
    shutil.copy(part, out / "metadata" / "part-00001.parquet")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert [problem.split(":")[0] for problem in problems(out)] == [
        "metadata/part-00001.parquet",
        "metadata/part-00000.parquet",
    ]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}"])
def test_a_damaged_success_is_found_and_not_believed(out, data):
    (out / "_SUCCESS").write_bytes(data)
    assert problems(out) == ["_SUCCESS: is damaged. Run the render command again."]
    assert proof.proven(Run.open(Store.open(str(out)))) is None


def test_status_counts_a_damaged_shard_as_missing(out):
    shard(out, 1).write_bytes(b"PAR1")
    found = status_of(Run.open(Store.open(str(out))))
    assert (found.images, found.missing, found.committed_shards, found.complete) == (8, 4, 2, False)


def test_programs_read_status_and_doctor_as_json(out):
    shard(out, 1).write_bytes(b"PAR1")
    said = CliRunner().invoke(app, ["status", str(out), "--json"])
    assert (said.exit_code, json.loads(said.output)["missing"], json.loads(said.output)["complete"]) == (0, 4, False)
    said = CliRunner().invoke(app, ["doctor", str(out), "--json"])
    assert (said.exit_code, json.loads(said.output)["problems"]) == (1, problems(out))


def test_a_truncated_plan_says_what_to_do(out):
    path = out / ".batchgen" / "plan-000.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Infrastructure, match="restore it from a copy"):
        Run.open(Store.open(str(out)))
