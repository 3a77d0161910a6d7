"""contact_page.py: everything of an image beneath its picture, one file, and no prompt becomes markup."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from batchgen import schema
from batchgen.look import contact_page
from batchgen.look.pictures import Seen
from batchgen.look.sample import Block, Place
from batchgen.run import images

ODD = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }} {% raw %}", "a & b", "犬 🐕 \x00"]


def row(prompt, **values):
    fields = [*schema.ROW_FIELDS, *schema.RENDER_FIELDS]
    usual = {
        "prompt": prompt, "height": 64, "width": 96, "num_inference_steps": 28, "guidance_scale": 4.5, "batch_size": 4,
        "skip_layer_guidance_scale": 0.0, "seed": 17, "cell": "default", "image_id": "i1",
    }  # fmt: skip
    return {field.name: None for field in fields} | usual | values


def made(rows, failed=(), pixels=None, title="", headings=(), count=None):
    pixels = np.full((64, 96, 3), (200, 30, 30), np.uint8) if pixels is None else pixels
    shown = {str(at): (pixels, row) for at, row in enumerate(rows)}
    line = tuple(Place(name, row["seed"], "a file", None) for name, (_, row) in shown.items())
    blocks = [Block(title, headings, (line,))]
    return contact_page.page(
        "run: <i>1</i> of 20 images", "<b>model</b>", blocks, Seen(shown), failed, count or len(failed)
    ).decode()


class Markup(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text.append(data.strip())


@pytest.mark.parametrize("text", ODD)
def test_no_prompt_becomes_markup(text):
    names = ("prompt_2", "prompt_3", "negative_prompt", "truncated_t5", "cell", "suspect", "image_id")
    seen = Markup(made([row(text, **dict.fromkeys(names, text))], [row(text, error_code=text, error_message=text)]))
    plain = Markup(made([row("a", **dict.fromkeys(names, "a"))], [row("a", error_code="a", error_message="a")]))
    assert (seen.tags, seen.attributes) == (plain.tags, plain.attributes)
    assert sum(text.replace("\x00", "\\x00") in part for part in seen.text) >= 8


def test_the_facts_of_an_image_stand_beneath_it():
    values = {"truncated_clip_l": "the end", "truncated_clip_g": "the end", "truncated_t5": "more",
              "requested_height": 60, "requested_width": 100, "skip_layer_guidance_scale": 2.8, "suspect": "uniform",
              "cell": "guidance_scale=4.5", "prompt_2": "second", "negative_prompt": "blurry"}  # fmt: skip
    text = made([row("a cat", **values)])
    for expected in (
        "a cat", "seed 17", "64 × 96 (asked for 60 × 100), 28 steps, guidance 4.5, skip-layer guidance 2.8, batch of 4",
        "CLIP-L and CLIP-G did not read: the end", "T5 did not read: more", "suspect: uniform", "prompt_2: second",
        "cell guidance_scale=4.5", "negative_prompt: blurry", "i1",
        "<title>run: &lt;i&gt;1&lt;/i&gt; of 20 images</title>",
    ):  # fmt: skip
        assert expected in text
    assert "cell default" not in made([row("a cat")])


def test_pictures_are_in_the_file():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    text = made([row("a"), row("b")], pixels=pixels)
    found = re.findall(r'src="([^"]*)"', text)
    assert len(found) == 2
    for source in found:
        data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        assert np.abs(images.decode(data).astype(int) - pixels).mean() < 5
    assert "://" not in text


def test_failures_are_shown_too():
    failed = row("bad prompt", error_code="NAN_LATENTS", error_message="not finite")
    text = made([row("a")], [failed])
    assert "1 failed" in text
    assert "bad prompt: NAN_LATENTS, not finite" in text
    assert " failed" not in made([row("a")])
    assert "<h2>900 failed, 1 of them:</h2>" in made([row("a")], [failed], count=900)


@pytest.mark.parametrize("text", ODD)
def test_titles_and_headings_are_text_too(text):
    seen = Markup(made([row("a")], title=text, headings=(text,)))
    assert seen.tags == Markup(made([row("a")], title="a", headings=("a",))).tags
    assert "table" in seen.tags
    assert "table" not in Markup(made([row("a")], title="a")).tags


def test_of_an_image_that_was_made_elsewhere_is_said_what_is_known():
    unknown = dict.fromkeys(
        ("num_inference_steps", "guidance_scale", "skip_layer_guidance_scale", "batch_size", "seed")
    )
    text = made([row("a", **unknown)])
    assert "64 × 96\n" in text or "64 × 96<br>" in text
    assert "None" not in text


def test_the_page_may_load_and_run_nothing():
    text = made([row("a")])
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)[1]
    rules = dict(rule.split(" ", 1) for rule in html.unescape(policy).split("; "))
    [style] = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "style-src": f"'sha256-{digest}'", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip
    assert text.index("Content-Security-Policy") < text.index("<title>")
    assert not {"style", "onerror", "onclick", "href"} & {*Markup(text).attributes}


def test_a_text_cannot_turn_round_what_stands_beside_it():
    text = made(
        [row("a\u202eb\x9b\x1bc\nd", negative_prompt="\u2066x")], [row("\u2067", error_code="", error_message="")]
    )
    assert "a\\u202eb\\x9b\\x1bc\nd" in text
    assert "\\u2066x" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x9b]", text)
    assert "می\u200cخواهم 👩\u200d🚀" in made([row("می\u200cخواهم 👩\u200d🚀")])


def test_a_long_text_is_folded_and_whole():
    long = " ".join(f"word{number}" for number in range(900))
    text = made([row(long, negative_prompt=long, truncated_t5=long)], [row(long, error_code="", error_message="")])
    assert Markup(text).tags.count("details") == 4
    assert text.count(f"…</summary>{long}</details>") == 4
    assert "details" not in made([row("a cat")])
