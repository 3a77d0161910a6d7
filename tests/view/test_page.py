"""The page in a real browser: it scrolls, filters, compares, marks and saves, by keys; it asks nobody else."""

import json
from pathlib import Path

import pytest
from view import make

from batchgen.evaluate.scores import About, write_part
from batchgen.evaluate.selection import read_selection, table_of
from tests.evaluate.browser import CHROMIUM, Press, Screen, Shot, until, visit
from tests.evaluate.rendered import rendered_table, written
from tests.view.served import served

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")

STRANGE = [
    "<script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "{{ 7 * 7 }} ${document.title = 'owned'} 'quoted\" \u2028 \u202e turned",
    "fake:raise a failure",
    "a word " * 200,
]
LOADED = (
    "document.querySelectorAll('.cell').length && "
    "[...document.querySelectorAll('.cell img')].every((one) => one.naturalWidth)"
)
BEGIN = [
    (None, "globalThis.byId = (id) => document.getElementById(id)"),
    (None, "globalThis.text = (id) => byId(id).textContent"),
    LOADED,
]


def walk(url, profile, steps):
    """Answers by their names. A step is a condition that comes true, (name, expression), or an act of the browser."""
    made = [until(step) if isinstance(step, str) else step[1] if isinstance(step, tuple) else step for step in steps]
    seen = visit(url, profile, made)
    asked = [step for step in steps if isinstance(step, str | tuple)]
    assert [step for step, said in zip(asked, seen.answers, strict=True) if isinstance(step, str) and not said] == []
    assert seen.complaints == []
    assert [one for one in seen.requests if not one.startswith(url.split("?")[0])] == []
    return {step[0]: said for step, said in zip(asked, seen.answers, strict=True) if isinstance(step, tuple)}


def counted(words):
    return f"text('count') === {words!r}"


def choose(name, value, event="change"):
    return None, f"byId({name!r}).value = {value!r}; byId({name!r}).dispatchEvent(new Event({event!r}))"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    prompts = [*STRANGE, *(f"prompt {i}" for i in range(40))]
    lines = [{"prompt": text, "category": f"kind {i % 2}"} for i, text in enumerate(prompts)]
    run = rendered_table(folder, written(folder, "prompts.jsonl", lines), sweep={"guidance_scale": [1.0, 4.5]})
    rows = table_of(run)
    ok = rows["image_id"][rows["status"] == "ok"]
    scores = [{"image_id": image_id, "score": at % 2 * 0.9} for at, image_id in enumerate(ok)]
    write_part(run.store, About(scorer="nsfw-model", version="1"), scores)
    return run


@pytest.fixture(scope="module")
def url(run):
    with served(run.store.url, "--blur-above", "0.5") as url:
        yield url


def test_it_marks_and_tells_all_by_keys(url, run, tmp_path):
    said = walk(
        url,
        tmp_path,
        [
            Screen(1300, 900),
            *BEGIN,
            counted("90 images"),
            "document.querySelectorAll('.unsafe').length > 3",
            ("prompts", "[...document.querySelectorAll('.caption')].slice(0, 3).map((one) => one.textContent)"),
            ("blurred", "getComputedStyle(document.querySelector('.unsafe img')).filter"),
            Press("b"),
            ("shown", "getComputedStyle(document.querySelector('.unsafe img')).filter"),
            Press("ArrowRight"),
            Press("k"),
            "text('marks') === '1 kept, 0 dropped'",
            Press("ArrowDown"),
            Press("d"),
            "text('marks') === '1 kept, 1 dropped'",
            Press("Enter"),
            "document.querySelectorAll('#facts tr').length > 20 && byId('whole').naturalWidth",
            "text('code').includes('StableDiffusion3Pipeline')",
            "byId('drop').getAttribute('aria-pressed') === 'true'",
            Press("ArrowRight"),
            Press("k"),
            "text('marks') === '2 kept, 1 dropped'",
            Press("Escape"),
            "!byId('details').open",
            Press("Home"),
            Press("k"),
            "text('marks') === '3 kept, 1 dropped'",
            Press("k"),
            "text('marks') === '2 kept, 1 dropped'",
            Press("ArrowRight"),
            Press("Enter"),
            f"text('prompt') === {json.dumps(STRANGE[1])} && document.querySelectorAll('#facts tr').length > 20",
            ("inside", "document.querySelectorAll('#prompt *').length"),
            Press("Escape"),
            Press("s"),
            (None, "byId('name').value = 'mine'; byId('do-save').click()"),
            "text('saved').startsWith('mine: 2 images of run')",
            Press("Escape"),
            "!byId('saving').open",
            Press("?"),
            "byId('keys').open",
            ("title", "document.title"),
        ],
    )
    assert said["prompts"][:2] == STRANGE[:2]
    assert said["inside"] == 0, "a prompt is text, and no part of the page"
    assert "\\u202e turned" in said["prompts"][2]
    assert (said["blurred"], said["shown"], said["title"]) == ("blur(18px)", "none", "run – batchgen view")
    kept = read_selection(run, "mine").image_ids
    assert kept[0] == table_of(run)["image_id"][1]
    assert len(kept) == 2


def test_it_filters_groups_and_compares(url, tmp_path):
    said = walk(
        url,
        tmp_path,
        [
            Screen(1300, 900),
            *BEGIN,
            Press("c"),
            "document.querySelectorAll('.line').length > 2",
            LOADED,
            ("columns", "[...byId('columns').children].map((one) => one.textContent)"),
            Press("ArrowRight"),
            "document.querySelector('.cell.current')?.dataset.at === '1'",
            "document.querySelectorAll('.cell.current').length === 1",
            Press("c"),
            "!document.querySelector('.line')",
            Press("/"),
            "document.activeElement.id === 'search'",
            choose("search", "prompt 3", "input"),
            counted("22 of 90 images"),
            Press("Escape"),
            "document.activeElement.id === 'scroller'",
            choose("search", "", "input"),
            counted("90 images"),
            choose("column", "category"),
            "!byId('value').hidden",
            choose("value", "0"),
            "byId('where').value === `\"category\" = 'kind 0'`",
            counted("46 of 90 images"),
            ("address", "location.hash"),
            choose("where", ""),
            counted("90 images"),
            (None, "document.querySelector('[data-name=failed]').click()"),
            counted("2 of 90 images"),
            "document.querySelector('.frame.none')?.textContent === 'RENDER_ERROR'",
            choose("where", "nosuch > 3"),
            "text('problem').includes('cannot be used')",
            choose("where", ""),
            "byId('problem').hidden",
            choose("group", "category"),
            "document.querySelector('.group')?.textContent === 'category: kind 0  46'",
            choose("group", ""),
            "!document.querySelector('.group')",
            LOADED,
            Press("n"),
            "byId('near')",
            counted("1 of 90 images"),
            choose("bits", "64"),
            counted("88 of 90 images"),
            "document.querySelectorAll('.cell').length > 10",
            LOADED,
            Press("n"),
            "!byId('near')",
            counted("90 images"),
            (None, "document.querySelector('[data-name=cut]').click()"),
            counted("2 of 90 images"),
            LOADED,
            Press("Enter"),
            "document.querySelector('#prompt mark')",
            ("cut", "document.querySelector('#prompt mark').textContent"),
        ],
    )
    assert said["columns"] == ["guidance_scale=1.0", "guidance_scale=4.5"]
    assert said["address"] == "#where=%22category%22+%3D+%27kind+0%27"
    assert len(said["cut"]) < len(STRANGE[4])
    assert STRANGE[4].endswith(said["cut"])


def test_light_and_dark_wide_and_narrow(url, tmp_path):
    ground = "getComputedStyle(document.body).backgroundColor"
    edge = "Math.max(...[...document.querySelectorAll('.cell')].map((one) => one.getBoundingClientRect().right))"
    wide = "document.documentElement.scrollWidth"
    said = walk(
        url,
        tmp_path / "profile",
        [
            Screen(1300, 800),
            *BEGIN,
            ("light", ground),
            ("wide", f"[{wide}, {edge} <= 1300]"),
            Shot(tmp_path / "light.png"),
            Screen(400, 800, dark=True),
            f"{edge} <= 400",
            LOADED,
            ("dark", ground),
            ("narrow", f"[{wide}, {edge} <= 400]"),
            Shot(tmp_path / "dark.png"),
        ],
    )
    assert (said["light"], said["dark"]) == ("rgb(236, 236, 240)", "rgb(23, 23, 26)")
    assert (said["wide"], said["narrow"]) == ([1300, True], [400, True])


def test_the_token_leaves_the_address(run, tmp_path):
    with served(run.store.url, "--host", "127.0.0.1") as url:
        assert "?token=" in url
        said = walk(url, tmp_path, [*BEGIN, ("address", "location.href"), ("cookie", "document.cookie")])
    assert (said["address"], said["cookie"]) == (url.split("?")[0] + "#", "")


def test_it_scrolls_further_than_a_browser_can(tmp_path):
    out = make(Path(tmp_path), 50_000)
    under = "document.elementFromPoint(100, 500).closest('.cell')"
    number = f"Number({under}.dataset.number)"
    current = "document.querySelector('.cell.current')"
    with served(str(out)) as url:
        said = walk(
            url,
            tmp_path / "profile",
            [
                Screen(300, 900),
                *BEGIN,
                (None, "globalThis.at = byId('scroller')"),
                ("tall", "at.scrollHeight"),
                (None, "at.scrollTop = at.scrollHeight / 2"),
                under,
                ("middle", number),
                (None, "at.scrollTop += 700"),
                under,
                ("lower", number),
                "await new Promise((done) => setTimeout(() => done(true), 400))",
                ("rested", number),
                Press("End"),
                f"{current}?.dataset.number === '49999'",
                f"{current}.getBoundingClientRect().bottom <= innerHeight",
                ("cells", "document.querySelectorAll('.cell').length"),
                Press("ArrowUp"),
                f"{current}?.dataset.number === '49998'",
                Press("Home"),
                f"{current}?.dataset.number === '0'",
                "at.scrollTop === 0",
            ],
        )
    assert said["tall"] == 8_000_000
    assert 24_500 < said["middle"] < 25_500
    assert 1 <= said["lower"] - said["middle"] <= 3, "the wheel moves by pixels"
    assert said["rested"] == said["lower"], "nothing moves when the bar finds its place"
    assert said["cells"] < 30
