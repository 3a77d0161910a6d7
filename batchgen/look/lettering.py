"""Words of any script as pixels: of each letter a font that has it, never the box of a letter that no font has.

Fonts that come along (look/fonts) are taken first, so that a sheet looks the same everywhere; then those of this
machine. Emoji are in colour where Noto Color Emoji is found. A letter of no font is written as its name,
`:grinning face:`, or as its code, `[U+13000]`. Knows Pillow and fonts; no pictures and no run.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

SIZE = 13  # pixels of a letter
LINE_HEIGHT = 19  # Thai and Khmer are higher than Latin
OWN = Path(__file__).parent / "fonts"
PLACES = (  # where systems keep fonts: Linux (as fontconfig has it), macOS, Windows
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts",
    "/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
COLOURED, COLOURED_SIZE = "NotoColorEmoji.ttf", 109  # the one size that its pictures have
NO_LETTER = "\U0010fffe"  # of which no font has a shape
JOINERS = "\u200c\u200d"
SELECTORS = "\ufe0e\ufe0f"
Colour = tuple[int, int, int]


class Face:
    """One font file."""

    def __init__(self, path: Path) -> None:
        self.coloured = path.name == COLOURED
        self.size = COLOURED_SIZE if self.coloured else SIZE
        self.font = ImageFont.truetype(path, self.size)
        # Shaping would hide what it has no shape for; letter by letter it cannot.
        self._plain = ImageFont.truetype(path, self.size, layout_engine=ImageFont.Layout.BASIC)
        self._box = self._shape(NO_LETTER)
        self._has: dict[str, bool] = {}

    def has(self, letter: str) -> bool:
        """Whether it has a shape for this letter, other than its box for letters that it lacks."""
        if letter not in self._has:
            self._has[letter] = self._shape(letter) != self._box
        return self._has[letter]

    def length(self, text: str) -> float:
        return float(self.font.getlength(text)) * self._scale

    def draw(self, sheet: Image.Image, at: tuple[float, float], text: str, colour: Colour) -> None:
        """at: where the text begins on its base line."""
        if not self.coloured:
            ImageDraw.Draw(sheet).text(at, text, fill=colour, font=self.font, anchor="ls")
            return
        width = max(int(self.font.getlength(text)), 1)
        drawn = Image.new("RGBA", (width, self.size + 40))
        ImageDraw.Draw(drawn).text((0, self.size), text, font=self.font, anchor="ls", embedded_color=True)
        small = drawn.resize((max(round(width * self._scale), 1), round(drawn.height * self._scale)))
        sheet.paste(small, (round(at[0]), round(at[1] - self.size * self._scale)), small)

    @property
    def _scale(self) -> float:
        return SIZE * 1.15 / self.size if self.coloured else 1.0

    def _shape(self, letter: str) -> tuple[float, bytes]:
        return float(self._plain.getlength(letter)), bytes(self._plain.getmask(letter, "L"))


@dataclass(frozen=True, slots=True)
class Piece:
    """Letters side by side that one font draws."""

    text: str
    face: Face


class Lettering:
    """Draws and measures lines. places: where to look for fonts beside those that come along."""

    def __init__(self, places: Sequence[str] = PLACES) -> None:
        self._places = [Path(place).expanduser() for place in places]
        self._shapes = bool(features.check("raqm"))  # without it letters stand side by side as they come
        self._opened: dict[Path, Face | None] = {}
        self._found: dict[str, Face | None] = {}

    def length(self, text: str) -> float:
        """Pixels that a line takes."""
        return sum(piece.face.length(piece.text) for piece in self.pieces(text))

    def draw(self, sheet: Image.Image, at: tuple[float, float], text: str, colour: Colour = (30, 30, 30)) -> None:
        """One line. at: its upper left corner."""
        left, base = at[0], at[1] + SIZE
        pieces = self.pieces(text)
        for piece in reversed(pieces) if _is_from_the_right(text) else pieces:
            piece.face.draw(sheet, (left, base), piece.text, colour)
            left += piece.face.length(piece.text)

    def pieces(self, text: str) -> list[Piece]:
        """A line by the fonts that draw it. What has no letter of its own (directions, controls) is left out."""
        found = list[Piece]()
        for cluster in clusters(text):
            wanted, before = self._shown(cluster), found[-1].face if found else None
            # Spaces and full stops go with the word before them: a word of Arabic is shaped as one.
            keeps = before is not None and not cluster[0].isalnum() and not before.coloured and _all(before, wanted)
            face = before if keeps else self._face(cluster, wanted)
            if face is None:
                face, wanted = self._base, _spelled(cluster)
            if found and found[-1].face is face:
                found[-1] = Piece(found[-1].text + wanted, face)
            elif wanted:
                found += self._parted(found.pop()) if found else []
                found.append(Piece(wanted, face))
        return found

    def _parted(self, piece: Piece) -> list[Piece]:
        """A piece and the space after it, which would stand before it where it is read from the right."""
        text = piece.text.rstrip(" ")
        return [piece] if text == piece.text or not text else [Piece(text, piece.face), Piece(" ", self._base)]

    def _shown(self, cluster: str) -> str:
        """Without the letters that only say how others are joined, where nothing reads them."""
        kept = JOINERS if self._shapes else ""
        return "".join(letter for letter in cluster if unicodedata.category(letter) != "Cf" or letter in kept)

    def _face(self, cluster: str, wanted: str) -> Face | None:
        """The font for letters that belong together; None where there is none."""
        if unicodedata.category(cluster[0]) == "Cc":
            return None
        if wanted not in self._found:
            self._found[wanted] = next((face for face in self._faces(cluster) if _all(face, wanted)), None)
        return self._found[wanted]

    def _faces(self, cluster: str) -> Iterator[Face]:
        coloured = [path for path in self._of_system if path.name == COLOURED]
        plain = [*self._own, *(path for path in self._of_system if path.name != COLOURED)]
        for path in [*coloured, *plain] if _is_emoji(cluster) else [*plain, *coloured]:
            if (face := self._open(path)) is not None:
                yield face

    def _open(self, path: Path) -> Face | None:
        if path not in self._opened:
            try:
                self._opened[path] = Face(path)
            except (OSError, ValueError):  # no font that this Pillow reads
                self._opened[path] = None
        return self._opened[path]

    @cached_property
    def _base(self) -> Face:
        return Face(self._own[0])

    @cached_property
    def _own(self) -> list[Path]:
        """NotoSans-Regular is the first; signs that several have are drawn with those of a script last."""
        paths = [path for path in OWN.iterdir() if path.suffix in (".ttf", ".otf")]
        last = ("Symbols", "Math", "CJK", "Droid")
        return sorted(paths, key=lambda path: (*(word in path.name for word in reversed(last)), path.name))

    @cached_property
    def _of_system(self) -> list[Path]:
        """Upright and regular ones first."""
        found = [path for place in self._places for path in place.rglob("*") if path.suffix in (".ttf", ".otf", ".ttc")]
        return sorted(found, key=lambda path: ("Regular" not in path.name, "Sans" not in path.name, path.name))


def clusters(text: str) -> Iterator[str]:
    """Letters with the marks, joiners and skin tones that belong to them."""
    cluster = ""
    for letter in text:
        if cluster and not (_is_mark(letter) or cluster[-1] == "\u200d" or _is_second_of_flag(cluster, letter)):
            yield cluster
            cluster = ""
        cluster += letter
    if cluster:
        yield cluster


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "M" or letter in JOINERS + SELECTORS or _is_tone(letter)


def _is_tone(letter: str) -> bool:
    """Of skin."""
    return "\U0001f3fb" <= letter <= "\U0001f3ff"


def _is_second_of_flag(cluster: str, letter: str) -> bool:
    return len(cluster) == 1 and all("\U0001f1e6" <= one <= "\U0001f1ff" for one in (cluster, letter))


def _is_emoji(cluster: str) -> bool:
    return cluster[0] >= "\U0001f000" or "\ufe0f" in cluster


def _is_from_the_right(text: str) -> bool:
    """As its first letter is that has a direction."""
    directions = (unicodedata.bidirectional(letter) for letter in text)
    return next((one for one in directions if one in ("L", "R", "AL")), "L") != "L"


def _all(face: Face, letters: str) -> bool:
    return all(letter in JOINERS + SELECTORS or face.has(letter) for letter in letters)


def _spelled(cluster: str) -> str:
    """Letters that no font has, in letters that one has."""
    if len(cluster) == 2 and _is_second_of_flag(cluster[0], cluster[1]):
        return f":flag {''.join(chr(ord(letter) - 0x1F1E6 + ord('a')) for letter in cluster)}:"
    written = ""
    for letter in cluster:
        name = unicodedata.name(letter, "").lower()
        if letter in SELECTORS or unicodedata.category(letter) == "Cf" or _is_tone(letter):
            continue
        written += f":{name}:" if name and unicodedata.category(letter) in ("So", "Sk") else f"[U+{ord(letter):04X}]"
    return written
