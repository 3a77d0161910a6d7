"""The contact sheet: every picture and its prompt, none lost, nothing distorted; cells side by side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from batchgen.cli import app
from batchgen.errors import Refused
from batchgen.look import contact_sheet, doctor, pictures, sample
from batchgen.look.alike import alike_of
from batchgen.look.contact_sheet import CELL, GAP, LINES, SIDE, draw, lettering, wrapped
from batchgen.look.lettering import LINE_HEIGHT
from batchgen.look.pictures import Seen
from batchgen.look.sample import COLUMNS, Block, Place
from batchgen.look.sheets import draw_to
from batchgen.plan.graph import make_plan
from batchgen.plan.preflight import prepare
from batchgen.run import shard_file
from batchgen.session import sheet_lines
from tests.in_process import render_here


def open_png(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def flat(colour, height=64, width=64):
    return np.full((height, width, 3), colour, np.uint8)


def of(shown, captions, title="", headings=()):
    """(blocks, seen) of pictures in lines."""
    names = [str(at) for at in range(len(shown))]
    places = [Place(name, 7, "a file", None) for name in names]
    across = len(headings) or COLUMNS
    lines = tuple(tuple(places[at : at + across]) for at in range(0, len(places), across))
    rows = ({"prompt": caption, "seed": 7} for caption in captions)
    return [Block(title, headings, lines)], Seen(dict(zip(names, zip(shown, rows, strict=True), strict=True)))


def test_pictures_stand_in_rows_with_their_prompts_beneath():
    colours = [(10 * i, 0, 200) for i in range(COLUMNS + 2)]
    sheet = open_png(draw(*of([flat(colour) for colour in colours], ["a red circle"] * len(colours))))
    assert sheet.shape == (2 * CELL[1] + GAP, COLUMNS * CELL[0] + GAP, 3)
    for i, colour in enumerate(colours):
        left, top = GAP + i % COLUMNS * CELL[0], GAP + i // COLUMNS * CELL[1]
        assert tuple(sheet[top + SIDE // 2, left + SIDE // 2]) == colour
        for line in (0, 1):
            beneath = sheet[top + SIDE + 2 + line * LINE_HEIGHT :, left : left + SIDE][:LINE_HEIGHT]
            assert beneath.min() < 160, "no caption" if line == 0 else "no seed"


def test_a_title_and_headings_stand_above_their_columns():
    headings = ("guidance_scale=1.0,sampler=euler", "b")
    sheet = open_png(draw(*of([flat((200, 0, 0))] * 4, [""] * 4, headings=headings), "a run"))
    above = LINE_HEIGHT + 2 * LINE_HEIGHT  # the title, and a heading of two lines
    assert sheet.shape == (above + 2 * CELL[1] + GAP, 2 * CELL[0] + GAP, 3)
    for at in (0, 1):
        assert sheet[LINE_HEIGHT:above, GAP + at * CELL[0] :][:, :SIDE].min() < 90
    assert tuple(sheet[above + GAP + SIDE // 2, GAP + SIDE // 2]) == (200, 0, 0)


def test_what_failed_leaves_its_place_and_says_why():
    place = Place("x", 1, None, "RENDER_ERROR")
    sheet = open_png(draw([Block("", ("a", "b"), ((place, None),))], Seen()))
    assert sheet[LINE_HEIGHT + GAP :, : CELL[0]].min() < 160
    assert sheet[LINE_HEIGHT + GAP :, CELL[0] + GAP :].min() > 200


@pytest.mark.parametrize(("height", "width"), [(64, 128), (160, 64), (1024, 1024), (16, 2048)])
def test_aspect_ratios_are_kept(height, width):
    sheet = open_png(draw(*of([flat((255, 0, 0), height, width)], [""])))
    rows, columns = np.nonzero((sheet == (255, 0, 0)).all(axis=2))
    shown = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(shown) == SIDE
    assert shown[0] / shown[1] == pytest.approx(height / width, rel=0.35 if height == 16 else 0.02)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "   ",
        "a red circle",
        "word " * 200,
        "x" * 500,
        "Ünïcode 犬 🐕",
        "line\nbreak\x00",
        "一只红色的猫" * 90,
        "قطة " * 99,
    ],
)
def test_captions_fit_beneath_their_picture(caption):
    lines = wrapped(caption)
    assert len(lines) <= LINES
    assert all(lettering().length(line) <= SIDE for line in lines)
    assert draw(*of([flat((0, 0, 0))], [caption]))


def test_a_long_caption_shows_that_it_goes_on():
    assert wrapped("a red circle") == ["a red circle"]
    lines = wrapped("a blue square left of a yellow star on a grey background " * 5)
    assert len(lines) == LINES
    assert lines[-1].endswith("...")
    assert not lines[0].endswith("...")
    chinese = wrapped("一只红色的猫坐在蓝色的地毯上" * 9)
    assert len(chinese) == LINES
    assert all(lettering().length(line) > SIDE * 0.8 for line in chinese), "divided where there is no space"


def names(places):
    return [place.image_id for place in places]


@pytest.fixture
def swept(make_job):
    """Two cells and 40 prompts; one of them fails in both cells."""
    rows = [{"prompt": "fake:raise" if at == 5 else f"prompt {at}", "topic": f"t{at % 3}"} for at in range(40)]
    job = make_job(rows, sweep={"guidance_scale": [1.0, 4.5]}, errors={"max_failed_fraction": 1.0})
    return render_here(make_plan(prepare(job))[0])


def test_cells_stand_side_by_side_with_the_same_prompt_and_seed(swept):
    chosen = sample.choose(swept, 20)
    (block,) = chosen.blocks
    assert block.headings == ("guidance_scale=1.0", "guidance_scale=4.5")
    assert (len(block.lines), chosen.images, chosen.note) == (10, 20, "")
    seen = pictures.read(swept, chosen.places)
    for line in block.lines:
        rows = [seen.pictures[place.image_id][1] for place in line]
        assert len({(row["prompt"], row["seed"]) for row in rows}) == 1
        assert [row["guidance_scale"] for row in rows] == [1.0, 4.5]
    prompts = [int(seen.pictures[line[0].image_id][1]["prompt"].split()[1]) for line in block.lines]
    assert {number // 10 for number in prompts} == {0, 1, 2, 3}, "spread over the run"
    assert sample.choose(swept, 20) == chosen
    everything = sample.choose(swept, 1000)
    failed = [place for place in everything.places if place.file is None]
    assert (everything.images, [place.error_code for place in failed]) == (78, ["RENDER_ERROR"] * 2)


def test_more_cells_than_fit_begin_another_block(make_job):
    job = make_job(["a", "b"], sweep={"guidance_scale": [float(scale) for scale in range(12)]})
    run = render_here(make_plan(prepare(job))[0])
    chosen = sample.choose(run, 24)
    assert [len(block.headings) for block in chosen.blocks] == [10, 2]
    assert {len(block.lines) for block in chosen.blocks} == {2}
    few = sample.choose(run, 5)
    assert (few.images, few.note) == (5, "5 of 12 cells")


def test_a_sheet_is_grouped_by_a_column(swept):
    chosen = sample.choose(swept, 12, "topic")
    assert [block.title for block in chosen.blocks] == [f"topic: t{at} ({(28, 26, 24)[at]} images)" for at in range(3)]
    assert chosen.images == 12
    by_number = sample.choose(swept, 12, "guidance_scale")
    assert [block.title.split(" (")[0] for block in by_number.blocks] == ["guidance_scale: 1", "guidance_scale: 4.5"]
    many = sample.choose(swept, 4, "prompt_id")
    assert (many.images, many.note) == (4, "4 of 39 values of prompt_id")
    with pytest.raises(Refused, match=r"topics: is no column of this run. Did you mean topic\?"):
        sample.choose(swept, 12, "topics")


def test_a_fair_sample_has_every_size(make_job):
    rows = [{"prompt": f"p{at}", "height": 32, "width": 64 if at == 17 else 32} for at in range(50)]
    run = render_here(make_plan(prepare(make_job(rows)))[0])
    chosen = sample.choose(run, 10)
    seen = pictures.read(run, chosen.places)
    widths = sorted(row["width"] for _, row in seen.pictures.values())
    assert widths == [32] * 9 + [64]
    assert len({row["prompt"] for _, row in seen.pictures.values()}) == 10


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [([5, 5], 4, [2, 2]), ([1, 99], 10, [1, 9]), ([1, 1, 1], 9, [1, 1, 1]), ([90, 1, 9], 3, [1, 1, 1])],
)
def test_shares(sizes, most, expected):
    assert sample.shares([range(size) for size in sizes], most) == expected


def test_only_the_files_that_are_shown_are_opened(make_job):
    job = make_job([f"p{at}" for at in range(40)], output={"images_per_shard": 4})
    run = render_here(make_plan(prepare(job))[0])
    chosen = sample.choose(run, 3)
    for path in sorted(Path(run.store.url, "data").iterdir()):
        if f"data/{path.name}" not in {place.file for place in chosen.places}:
            path.unlink()
    assert len(list(Path(run.store.url, "data").iterdir())) == 3
    assert len(pictures.read(run, chosen.places).pictures) == 3


def test_only_the_row_groups_that_are_shown_are_read(make_job, monkeypatch):
    monkeypatch.setattr(shard_file, "ROW_GROUP_BYTES", 1)
    run = render_here(make_plan(prepare(make_job([f"p{at}" for at in range(12)])))[0])
    whole = []

    class Watched(pq.ParquetFile):
        def read_row_group(self, group, columns=None, **options):
            whole.extend([group] if columns is None else [])
            return super().read_row_group(group, columns, **options)

    monkeypatch.setattr(pictures.pq, "ParquetFile", Watched)
    chosen = sample.choose(run, 3)
    assert len(pictures.read(run, chosen.places).pictures) == 3
    assert len(whole) == 3


@pytest.mark.parametrize("sections", [{}, {"sweep": {"guidance_scale": [1.0, 4.5]}}])
def test_of_a_run_without_pictures_there_is_no_sheet(make_job, sections):
    make_plan(prepare(make_job(["a"], **sections)))
    run = make_plan(prepare(make_job(["a", "b"], **sections), extend=True))[0]
    assert sample.choose(run, 9) == sample.choose(run, 9, "seed") == sample.Sample()
    with pytest.raises(Refused, match="has no picture yet to look at"):
        draw_to(run, None, 9)
    assert list(sheet_lines(run, rendered=0)) == []
    assert alike_of(run) == []


def test_the_title_says_what_this_is_and_never_where(swept):
    chosen = sample.choose(swept, 6)
    said = contact_sheet.title(swept, chosen, Seen(days=frozenset({"2026-11-28", "2026-11-03"})))
    assert said == "run: 6 of 80 images, prompts-1.jsonl, fake, 2026-11-03 to 2026-11-28"


def test_a_finished_run_gets_a_sheet_once(swept):
    path = Path(swept.store.url, contact_sheet.PATH)
    assert list(sheet_lines(swept, rendered=80)) == [f"To look at it: {path}"]
    drawn = path.read_bytes()
    assert list(sheet_lines(swept, rendered=0)) == []
    path.unlink()
    assert list(sheet_lines(swept, rendered=0)) == [f"To look at it: {path}"]
    assert path.read_bytes() == drawn
    assert doctor.examine(swept).problems == []
    file = sample.choose(swept, 1).places[0].file
    Path(swept.store.url, file).write_bytes(b"damaged")
    assert next(sheet_lines(swept, rendered=1)).startswith("note: no contact sheet was drawn.")


def test_the_command_draws_where_it_is_told(swept, tmp_path):
    def said(*words):
        done = CliRunner().invoke(app, ["sheet", swept.store.url, *words])
        return done.exit_code, " ".join(done.output.split())

    assert said() == (0, f"To look at it: {swept.store.url}/contact_sheet.png")
    assert said("--out", str(tmp_path / "a.png"), "--most", "4", "--group-by", "topic")[0] == 0
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.width == CELL[0] + GAP
    assert said("--out", str(tmp_path / "a.html"), "--most", "4")[0] == 0
    assert "<th>guidance_scale=1.0</th>" in (tmp_path / "a.html").read_text()
    assert said("--out", str(tmp_path / "a.gif"))[0] == 2
    assert said("--group-by", "topics")[0] == 2


def test_no_sheet_is_drawn_among_the_tables_of_a_run(swept):
    inside = Path(swept.store.url, "data", "sheet.png")
    with pytest.raises(Refused, match="lies among the run's own files"):
        draw_to(swept, inside, 9)
    assert not inside.exists()
    assert Path(draw_to(swept, Path(swept.store.url, "mine.png"), 9)).exists()
