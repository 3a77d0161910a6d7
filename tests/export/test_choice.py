"""Which images are exported, and in which order: by expressions, selections, likeness, and sizes among each other."""

import tarfile

import pandas as pd
import pyarrow.parquet as pq
import pytest

from batchgen.errors import Refused
from batchgen.evaluate.expression import is_of_one_row
from batchgen.evaluate.scores import About, write_part
from batchgen.evaluate.selection import select
from batchgen.export.choice import Choice, best_first
from batchgen.export.options import Options
from batchgen.export.order import order_of
from batchgen.export.training import export_for_training
from batchgen.look.results import Results
from tests.export.stored import files, planned, store_shards, stored

ROWS = [{"prompt": f"picture {i}", "number": i, "height": 32, "width": 32 + 16 * (i // 16)} for i in range(64)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """64 images of four sizes, four of each data file."""
    return stored(tmp_path_factory.mktemp("choice"), ROWS)


def numbers(run, folder, choice=None, **options):
    """Column `number` of what is exported, in order."""
    export_for_training(run, str(folder), "webdataset", choice, Options(**options))
    return [n for path in sorted(folder.glob("*.parquet")) for n in pq.read_table(path)["number"].to_pylist()]


def scored(run, name, scores, higher=True):
    about = About(scorer=name, version="1", higher_is_better=higher)
    write_part(run.store, about, [{"image_id": one, "score": score} for one, score in scores.items()])


def test_an_expression_and_a_selection_hold_together(run, tmp_path):
    select(run, "number % 2 = 0", "even")
    both = numbers(run, tmp_path / "both", Choice(where="number < 10", selection="even"))
    assert sorted(both) == [0, 2, 4, 6, 8]
    assert sorted(numbers(run, tmp_path / "one", Choice(selection="even"))) == list(range(0, 64, 2))
    compared = "number > (select avg(number) from images)"
    assert sorted(numbers(run, tmp_path / "two", Choice(where=compared))) == list(range(32, 64))
    done = export_for_training(run, str(tmp_path / "one"), "webdataset", Choice(selection="even"))
    assert "32 images are not chosen" in done.notes
    with pytest.raises(Refused, match="None of its 64 images is chosen; 0 failed"):
        numbers(run, tmp_path / "none", Choice(where="number < 0"))
    with pytest.raises(Refused, match=r"cannot be used[\s\S]*Nearest: number"):
        numbers(run, tmp_path / "none", Choice(where="numbr < 0"))
    assert not (tmp_path / "none").exists()


def test_of_those_that_are_alike_the_best_stays(run, tmp_path):
    """All pictures here have one hash, so that one of them stays."""
    rows = Results(run.store.url).to_pandas()
    assert numbers(run, tmp_path / "first", Choice(dedupe="phash:0")) == [rows["number"][0]]
    scored(run, "one", dict(zip(rows["image_id"], -abs(rows["number"] - 41.0), strict=True)))
    assert numbers(run, tmp_path / "best", Choice(dedupe="phash:0")) == [41]
    done = export_for_training(run, str(tmp_path / "best"), "webdataset", Choice(dedupe="phash:0"))
    rule = "of those that are alike the one stays that is not suspect, then the highest score_one, then the first"
    assert f"63 near duplicates are left out: {rule}" in done.notes
    assert numbers(run, tmp_path / "some", Choice(dedupe="phash:0", where="number < 40")) == [39]
    scored(run, "two", dict.fromkeys(rows["image_id"], 1.0))
    assert numbers(run, tmp_path / "again", Choice(dedupe="phash:0")) == [rows["number"][0]], "of two none decides"


def test_what_is_not_suspect_comes_first_and_what_has_no_score_last():
    rows = pd.DataFrame({"suspect": ["uniform", None, None, None], "score_a": [9.0, 1.0, None, 2.0]})
    assert best_first(rows, "score_a", higher=True).index.tolist() == [3, 1, 2, 0]
    assert best_first(rows, "score_a", higher=False).index.tolist() == [1, 3, 2, 0]
    assert best_first(rows).index.tolist() == [1, 2, 3, 0]


def test_sizes_are_mixed_and_always_the_same(run, tmp_path):
    by_plan = numbers(run, tmp_path / "plan", shard_size=16)
    mixed = numbers(run, tmp_path / "mixed", shard_size=16, mix_buckets=True)
    assert sorted(mixed) == sorted(by_plan) == list(range(64))
    assert numbers(run, tmp_path / "again", shard_size=16, mix_buckets=True) == mixed
    assert files(tmp_path / "again") == files(tmp_path / "mixed")

    def widths(order):  # sizes in each part
        return [len({n // 16 for n in order[at : at + 16]}) for at in range(0, 64, 16)]

    assert widths(by_plan) == [1, 1, 1, 1]
    assert min(widths(mixed)) >= 3
    few = Choice(where="number < 4")  # of one data file
    numbers(run, tmp_path / "few", few, mix_buckets=True)
    for folder, choice in (("mixed", Choice()), ("few", few)):
        asked = order_of(run, choice, mix=True).rows["image_id"].to_pylist()
        tables = [pq.read_table(path) for path in sorted((tmp_path / folder).glob("*.parquet"))]
        assert [one for table in tables for one in table["image_id"].to_pylist()] == asked
    with tarfile.open(tmp_path / "mixed" / "00000.tar") as tar:
        texts = [tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")]
    assert texts == [f"picture {n}" for n in mixed[:16]]


def test_what_needs_all_images_waits_for_them(tmp_path):
    run = planned(tmp_path, ROWS)
    store_shards(run, [0, 1, 2])
    with pytest.raises(Refused) as refused:
        numbers(run, tmp_path / "out", Choice(dedupe="phash:4", where="number > (select 3)"), mix_buckets=True)
    assert len(refused.value.problems) == 3
    assert all(word in str(refused.value) for word in ("--dedupe", "--mix-buckets", "looks at other rows"))
    with pytest.raises(Refused, match="score_clip can be asked for once all images are rendered"):
        numbers(run, tmp_path / "out", Choice(where="score_clip > 3"))
    early = numbers(run, tmp_path / "out", Choice(where="number % 2 = 0"), shard_size=2)
    assert len(early) == 6
    store_shards(run, list(range(3, 16)))
    assert numbers(run, tmp_path / "out", Choice(where="number % 2 = 0"), shard_size=2)[:6] == early


@pytest.mark.parametrize(("where", "alone"), [
    ("number > 3 and suspect is null", True),
    ("prompt = 'SUBQUERY'", True),
    ("number > (select max(number) from images)", False),
    ("exists (select 1)", False),
    ("number in (select 1)", False),
    ("1) from images; select (2", False),
    ("number >", False),
])  # fmt: skip
def test_an_expression_that_looks_at_other_rows_is_known(where, alone):
    assert is_of_one_row(where) == alone
