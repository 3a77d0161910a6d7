"""The page of a comparison in a real browser: it shows all, runs nothing of a prompt's, asks nobody, takes votes."""

import json
import re

import pytest
from PIL import Image

from batchgen.evaluate import page
from batchgen.evaluate.charts import Point, pareto
from batchgen.evaluate.comparison import compare
from batchgen.evaluate.thumbnails import small
from batchgen.evaluate.votes import Vote
from tests.evaluate.browser import CHROMIUM, visit

PAYLOADS = [
    "<script>document.title = 'owned'</script>",
    "</script><script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "{{ 7 * 7 }} ${document.title = 'owned'} 'quoted\" \u2028 \u202e turned",
    "<!-- <style>body { display: none }</style>",
    "javascript:document.title='owned'",
]


def written(run, tmp_path, **options):
    runs = [("run", run)]
    found = compare(runs, **options)
    return page.write(found, runs, tmp_path / "comparison.html", "batchgen compare run")


@pytest.fixture
def run(scored):
    return scored(prompts=[f"{i} {text}" for i, text in enumerate(PAYLOADS * 2)])


def test_it_holds_all_and_loads_nothing(run, tmp_path):
    text = written(run, tmp_path).read_text()
    assert text.count("data:image/jpeg;base64,") == 24
    assert 'content="default-src &#39;none&#39;;' in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script>document.title" not in text
    assert "batchgen compare run" in text


def test_many_pictures_are_a_folder(run, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    path = written(run, tmp_path)
    assert path == tmp_path / "comparison" / "index.html"
    assert len(list((tmp_path / "comparison" / "thumbs").glob("*.jpg"))) == 24
    assert "data:image/jpeg" not in path.read_text()
    if CHROMIUM:
        seen = visit(path, tmp_path / "profile", ["[...document.images].filter((one) => one.naturalWidth).length"])
        assert (seen.answers, seen.complaints) == ([24], [])
        assert all("/thumbs/" in url for url in seen.requests)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_a_browser_shows_it_and_takes_votes(run, tmp_path):
    press = "const press = (key) => document.dispatchEvent(new KeyboardEvent('keydown', {key}))"
    seen = visit(
        written(run, tmp_path),
        tmp_path / "profile",
        [
            "document.title",
            "document.querySelectorAll('#prompts section').length",
            "[...document.images].filter((one) => one.naturalWidth).length",
            "[...document.querySelectorAll('#prompts .words')].map((one) => one.textContent).sort()",
            "category.value = 'kind 1'; category.dispatchEvent(new Event('change')); list.children.length",
            f"{press}; press('j'); document.activeElement.className",
            "sort.value = 'plan'; show(); byId('begin').click(); dialog.open",
            "['ArrowLeft', 'ArrowDown', 'ArrowRight'].forEach(press); votes",
            "byId('progress').textContent",
        ],
    )
    assert seen.complaints == []
    assert seen.requests == []
    title, sections, shown, texts, of_kind, focused, blind, votes, progress = seen.answers
    assert title == "Comparison of run"
    assert (sections, shown, of_kind, focused, blind) == (12, 24, 6, "prompt", True)
    assert [text.partition(" ")[2] for text in texts if text.startswith("0 ")] == [PAYLOADS[0]]
    assert [vote["vote"] for vote in votes] == ["left", "tie", "right"]
    assert {Vote.model_validate_json(json.dumps(vote)).left_run for vote in votes} == {"run"}
    assert all(
        {vote["left_column"], vote["right_column"]} == {"guidance_scale=1.0", "guidance_scale=4.5"} for vote in votes
    )
    assert progress == "3 votes, 3 pairs left"


def test_a_thumbnail_is_small_and_keeps_its_shape():
    import io

    sink = io.BytesIO()
    Image.new("RGB", (800, 400), (200, 30, 30)).save(sink, "PNG")
    with Image.open(io.BytesIO(small(sink.getvalue()))) as found:
        assert (found.format, found.size) == ("JPEG", (192, 96))


def test_the_front_holds_what_no_other_beats():
    points = [
        Point(x, y, y, y, name, "") for x, y, name in [(1, 5, "a"), (2, 4, "b"), (2, 7, "c"), (3, 7, "d"), (4, 9, "e")]
    ]
    assert [point.name for point in pareto(points, higher_is_better=True)] == ["a", "c", "e"]
    assert [point.name for point in pareto(points, higher_is_better=False)] == ["a", "b"]
