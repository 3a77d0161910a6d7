"""Each layout is read as those read it who it is for; files and captions are those of the run."""

import io
import json
import struct
import tomllib
import warnings
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.errors import Refused
from batchgen.export import training
from batchgen.export.layouts import NAMES, layout_named
from batchgen.export.options import Options
from batchgen.export.training import export_for_training
from batchgen.run import images
from tests.export.stored import files, planned, store_shards, stored

ROWS = [
    {"prompt": f"picture {i}\nof ä", "style": "oil", "text": "theirs", "height": 32 + 16 * (i % 2), "width": 64}
    for i in range(9)
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("layouts"), ROWS, failed={0: [True, False, False, False]})


@pytest.fixture(scope="module")
def rows(run):
    """In the order of the plan."""
    tables = [pq.read_table(f"{run.store.url}/data/shard-{number:06}.parquet") for number in range(run.next_shard)]
    return [row for table in tables for row in table.to_pylist()]


def exported(*words):
    done = CliRunner().invoke(app, ["export", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_folder_has_captions_beside_pictures_and_one_table(run, rows, tmp_path):
    export_for_training(run, str(tmp_path), "folder", options=Options(bare=True, caption="{prompt}, {style}"))
    there = files(tmp_path)
    assert len(there) == 2 * 8 + 1
    for row in rows:
        assert there[f"00000/{row['image_id']}.png"] == row["image"]["bytes"]
        assert there[f"00000/{row['image_id']}.txt"].decode() == f"{row['prompt']}, oil"
    table = pq.read_table(tmp_path / "metadata.parquet")
    assert table["image_id"].to_pylist() == [row["image_id"] for row in rows]
    assert table["file_name"].to_pylist() == [f"00000/{row['image_id']}.png" for row in rows]
    assert table["seed"].to_pylist() == [row["seed"] for row in rows]


def test_imagefolder_is_read_by_datasets(run, rows, tmp_path):
    from datasets import load_dataset

    done = export_for_training(run, str(tmp_path / "out"), "imagefolder")
    assert "imagefolder has a column text of its own, and that of the table is left out" in done.notes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = load_dataset("imagefolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c"))
        found = list(read)
    assert [row["text"] for row in found] == [row["prompt"] for row in rows]
    assert [row["image_id"] for row in found] == [row["image_id"] for row in rows]
    for mine, theirs in zip(found, rows, strict=True):
        assert (mine["image"].convert("RGB").tobytes()) == images.decode(theirs["image"]["bytes"]).tobytes()
        assert mine["suspect"] == ""
        assert mine["style"] == "oil"


def test_a_file_that_is_another_is_refused_and_kept(run, tmp_path):
    export_for_training(run, str(tmp_path), "imagefolder")
    first = min(tmp_path.glob("*/*.png"))
    first.write_bytes(b"mine")
    with pytest.raises(Refused, match=rf"{first.name}: is there and is another file"):
        export_for_training(run, str(tmp_path), "imagefolder")
    assert first.read_bytes() == b"mine"
    first.unlink()
    assert export_for_training(run, str(tmp_path), "imagefolder").tally.written == 1


def test_kohya_has_one_folder_with_lines_and_its_settings(run, rows, tmp_path):
    code, said = exported(run.store.url, tmp_path / "my lora", "--to", "kohya", "--repeats", 10)
    assert code == 0, said
    folder = tmp_path / "my lora"
    settings = tomllib.loads((folder / "dataset.toml").read_text())
    general, (dataset,) = settings["general"], settings["datasets"]
    assert general == {
        "caption_extension": ".txt", "enable_bucket": True, "min_bucket_reso": 32, "max_bucket_reso": 32,
        "bucket_reso_steps": 32,
    }  # fmt: skip
    assert dataset["resolution"] == [32, 32]
    (subset,) = dataset["subsets"]
    assert subset == {"image_dir": "10_my-lora", "num_repeats": 10}
    there = files(folder / subset["image_dir"])
    assert len(there) == 16
    assert all(there[f"{row['image_id']}.txt"].decode() == row["prompt"].replace("\n", " ") for row in rows)
    for row in rows:
        picture = Image.open(io.BytesIO(there[f"{row['image_id']}.png"]))
        assert picture.info["parameters"].startswith(row["prompt"])


def read_shard(path):
    """As the format says."""
    data = path.read_bytes()
    (count,) = struct.unpack_from("<I", data)
    offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
    said = json.loads(data[4 + 4 * (count + 1) : offsets[0]])
    assert offsets[-1] == len(data)
    for begin, end in pairwise(offsets):
        sizes = struct.unpack_from("<3I", data, begin)
        at, sample = begin + 12, {}
        for name, size in zip(said["column_names"], sizes, strict=True):
            sample[name] = data[at : at + size]
            at += size
        assert at == end
        yield sample


def test_mds_has_the_offsets_and_the_index_of_its_format(run, rows, tmp_path):
    options = Options(shard_size=3, bare=True)
    export_for_training(run, str(tmp_path), "mds", options=options)
    index = json.loads((tmp_path / "index.json").read_text())
    assert [shard["samples"] for shard in index["shards"]] == [3, 3, 2]
    names = [shard["raw_data"]["basename"] for shard in index["shards"]]
    assert [shard["raw_data"]["bytes"] for shard in index["shards"]] == [(tmp_path / n).stat().st_size for n in names]
    assert index["shards"][0]["column_encodings"] == ["str", "png", "json"]
    found = [sample for name in names for sample in read_shard(tmp_path / name)]
    assert [sample["image"] for sample in found] == [row["image"]["bytes"] for row in rows]
    assert [sample["caption"].decode() for sample in found] == [row["prompt"] for row in rows]
    assert [json.loads(sample["json"])["image_id"] for sample in found] == [row["image_id"] for row in rows]
    whole = files(tmp_path)
    (tmp_path / names[1]).unlink()
    assert export_for_training(run, str(tmp_path), "mds", options=options).tally.written == 1
    assert files(tmp_path) == whole
    with pytest.raises(Refused, match="mds: holds another export"):
        export_for_training(run, str(tmp_path), "mds", options=Options(shard_size=3))


@pytest.mark.parametrize("to", ["folder", "imagefolder", "kohya", "mds"])
def test_a_run_that_renders_gives_the_files_of_the_end(to, tmp_path, monkeypatch):
    """Parts are of two images here: those of folders have thousands."""
    monkeypatch.setattr(training, "layout_named", lambda *asked: replace(layout_named(*asked), part_size=2))
    run = planned(tmp_path, ROWS)
    store_shards(run, [0])
    export_for_training(run, str(tmp_path / "out"), to)
    early = files(tmp_path / "out")
    assert early
    assert not {"metadata.parquet", "metadata.jsonl", "dataset.toml", "index.json"} & early.keys()
    store_shards(run, [1, 2, 3])
    export_for_training(run, str(tmp_path / "out"), to)
    export_for_training(run, str(tmp_path / "quiet" / "out"), to)
    assert files(tmp_path / "out") == files(tmp_path / "quiet" / "out")
    assert early.items() <= files(tmp_path / "out").items()


@pytest.mark.parametrize(("words", "why"), [
    (["--to", "folder", "--shard-size", 4], "--shard-size: folder has files and no shards"),
    (["--to", "webdataset", "--repeats", 4], "--repeats: is for --to kohya"),
    (["--to", "geneval", "--bare", "--caption", "x"], "--caption, --bare: for training only, and --to geneval is not"),
    (["--to", "webdataset", "--image-quality", 90], "--image-quality 90: png loses nothing"),
    (["--to", "webdataset", "--image-format", "gif"], "--image-format gif: write one of png, webp, jpeg"),
    (["--to", "webdataset", "--caption", "{stile}"], "the run has no column 'stile'. Did you mean style?"),
    (["--to", "webdataste"], "Did you mean webdataset?"),
    (["--to", "webdataset", "--check"], "--check: asks what a benchmark's scorer would pass over"),
])  # fmt: skip
def test_what_would_do_nothing_is_refused(run, tmp_path, words, why):
    code, said = exported(run.store.url, tmp_path / "out", *words)
    assert code == 2
    assert why in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("image_format", "name"), [("webp", "WEBP"), ("jpeg", "JPEG")])
def test_pictures_are_encoded_as_a_job_would(run, rows, tmp_path, image_format, name):
    options = Options(image_format=image_format, image_quality=80, bare=True)
    export_for_training(run, str(tmp_path), "imagefolder", options=options)
    extension = images.FORMATS[image_format].extension
    for row in rows:
        data = (tmp_path / "00000" / f"{row['image_id']}.{extension}").read_bytes()
        assert data == images.encode(images.decode(row["image"]["bytes"]), image_format, 80)
        assert Image.open(io.BytesIO(data)).format == name


def test_a_prompt_that_no_jpeg_holds_is_said(tmp_path):
    run = stored(tmp_path, [{"prompt": "word " * 3900, "negative_prompt": "bad " * 4900}, {"prompt": "short"}])
    done = export_for_training(run, str(tmp_path / "out"), "imagefolder", options=Options(image_format="jpeg"))
    assert "some prompts are longer than a JPEG can hold, and stand beside the picture only" in done.notes
    assert run.store.url not in "".join(done.notes)


@pytest.mark.parametrize("to", NAMES)
def test_nothing_of_the_house_leaves_it(run, tmp_path, to):
    export_for_training(run, str(tmp_path / "out"), to)
    plan = run.plans[0]
    house = [run.store.url, str(tmp_path), plan.plan, plan.fingerprint, plan.stored["input"]["path"], ".jsonl"]
    for path, data in files(tmp_path / "out").items():
        if path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            data = f"{table.schema.metadata} {table.to_pylist()}".encode()
        assert not [word for word in house if word.encode() in data], path


def test_all_that_is_wrong_is_said_at_once(run, tmp_path):
    words = ["--to", "imagefolder", "--dedupe", "4", "--caption", "stile", "--image-format", "gif", "--shard-size", 0]
    code, said = exported(run.store.url, tmp_path / "out", *words)
    assert code == 2
    assert all(f"{word}" in said for word in ("--dedupe '4'", "column 'stile'", "--image-format gif", "--shard-size:"))


def test_of_many_files_one_is_warned_before(run, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "MANY_FILES", 10)
    said = []
    done = export_for_training(run, str(tmp_path), "kohya", warn=lambda text: said.append((text, files(tmp_path))))
    assert said == [("note: 16 files are many in folders: --to webdataset has few, and reads faster.", {})]
    assert done.tally.written == 17


def test_what_is_kept_as_it_is_is_said(run, tmp_path):
    done = export_for_training(run, str(tmp_path), "imagefolder", options=Options(image_format="png"))
    assert "pictures are png already, and are kept as they are" in done.notes
