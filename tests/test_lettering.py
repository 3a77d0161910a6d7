"""lettering.py: every script has letters, and what no font has is spelled out. A box is never drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont, features

from batchgen.look import lettering
from batchgen.look.lettering import LINE_HEIGHT, OWN, Lettering, clusters

SCRIPTS = {
    "arabic": "قطة حمراء على سجادة زرقاء", "hindi": "एक लाल बिल्ली नीली कालीन पर क्षत्रिय",
    "chinese": "一只红色的猫坐在蓝色的地毯上 漢字", "japanese": "青い絨毯の上の赤い猫 カナ",
    "korean": "파란 카펫 위의 빨간 고양이",
    "thai": "แมวสีแดงนั่งบนพรมสีน้ำเงิน", "hebrew": "חתול אדום על שטיח כחול", "russian": "красный кот на синем ковре",
    "greek": "κόκκινη γάτα σε μπλε χαλί", "bengali": "লাল বিড়াল", "tamil": "சிவப்பு பூனை", "telugu": "ఎర్ర పిల్లి",
    "amharic": "ቀይ ድመት", "khmer": "ឆ្មាក្រហម", "burmese": "ကြောင်နီ", "vietnamese": "mèo đỏ trên thảm xanh",
    "signs": "“quotes” – — … → ∀ € №",
}  # fmt: skip


@pytest.fixture(scope="module")
def alone():
    """As on a machine without fonts."""
    return Lettering(places=[])


def is_box(piece, letter):
    plain = ImageFont.truetype(piece.face.font.path, 40, layout_engine=ImageFont.Layout.BASIC)
    return bytes(plain.getmask(letter)) == bytes(plain.getmask("\uffff")) and letter not in " \u200c\u200d\ufe0f"


@pytest.mark.parametrize("script", SCRIPTS)
def test_fonts_that_come_along_have_the_letters_of_a_script(alone, script):
    pieces = alone.pieces(SCRIPTS[script])
    assert "".join(piece.text for piece in pieces) == SCRIPTS[script]
    assert not [letter for piece in pieces for letter in piece.text if is_box(piece, letter)]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a 😀 b", "a :grinning face: b"), ("👩\u200d🚀", ":woman::rocket:"), ("👍🏽", ":thumbs up sign:"),
        ("🇩🇪", ":flag de:"), ("𓀀", "[U+13000]"), ("a\x00b\x1b", "a[U+0000]b[U+001B]"), ("a\u202eb\u2066", "ab"),
        ("\ue000", "[U+E000]"),
    ],
)  # fmt: skip
def test_what_no_font_has_is_spelled_out(alone, text, written):
    pieces = alone.pieces(text)
    assert "".join(piece.text for piece in pieces) == written
    assert not [letter for piece in pieces for letter in piece.text if is_box(piece, letter)]


def test_letters_stay_with_their_marks():
    assert list(clusters("a\u0301b")) == ["a\u0301", "b"]
    assert list(clusters("👩\u200d🚀x")) == ["👩\u200d🚀", "x"]
    assert list(clusters("🇩🇪🇫🇷")) == ["🇩🇪", "🇫🇷"]
    assert list(clusters("")) == []


def drawn(of, text):
    sheet = Image.new("RGB", (300, LINE_HEIGHT), "white")
    of.draw(sheet, (2, 2), text)
    return np.asarray(sheet)


def test_a_line_is_as_long_as_it_is_measured(alone):
    for text in ("a red circle", SCRIPTS["arabic"], SCRIPTS["chinese"], "cat قطة cat 犬"):
        columns = np.nonzero(drawn(alone, text).min(axis=(0, 2)) < 128)[0]
        assert abs(columns[-1] - columns[0] - alone.length(text)) < 6, text


@pytest.mark.skipif(not features.check("raqm"), reason="without libfribidi letters stand side by side as they come")
def test_words_are_shaped_and_read_in_their_direction(alone):
    apart = sum(alone.length(letter) for letter in "قطة")
    assert alone.length("قطة") < apart - 2, "letters of Arabic are joined"
    first, second = alone.pieces("قطة 犬")[0], alone.pieces("قطة 犬")[-1]
    line = drawn(alone, "قطة 犬")
    assert first.face is not second.face
    assert np.array_equal(line[:, 2:12], drawn(alone, "犬")[:, 2:12]), "what is read last stands on the left"


def test_emoji_are_in_colour_where_their_font_is_found():
    of = Lettering()
    face = of.pieces("😀")[0].face
    if not face.coloured:
        pytest.skip("this machine has no Noto Color Emoji")
    seen = drawn(of, "😀").astype(int)
    assert (np.ptp(seen, axis=2) > 100).any()


def test_fonts_come_along_with_their_licences():
    names = {path.name for path in OWN.iterdir()}
    assert {"OFL.txt", "LICENSE-DroidSansFallback.txt"} <= names
    text = (Path(lettering.__file__).parents[2] / "pyproject.toml").read_text()
    assert '"batchgen.look" = ["fonts/*"]' in text
    assert sum(path.stat().st_size for path in OWN.iterdir()) < 5_000_000


def test_a_file_that_is_no_font_is_passed_over(tmp_path):
    (tmp_path / "A-Regular.ttf").write_text("no font")
    assert Lettering([str(tmp_path)]).pieces("𓀀")[0].text == "[U+13000]"
