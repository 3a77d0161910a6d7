"""One PNG that shows a run: small pictures with their prompts and seeds beneath, cells of a sweep side by side.

Knows how a sheet is laid out and drawn; which pictures it shows `sample` chooses, and `lettering` writes the words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from batchgen.finalize.card import model_name
from batchgen.look import pictures, sample
from batchgen.look.lettering import LINE_HEIGHT, Colour, Lettering, clusters
from batchgen.look.pictures import Seen
from batchgen.look.sample import Block, Sample
from batchgen.run import images
from batchgen.run.directory import Run
from batchgen.words import visible

PATH = "contact_sheet.png"
MOST = 60  # pictures: ten rows, which a screen shows at a glance
SIDE = 192  # pixels of the longer side of each picture
GAP = 16
LINES = 3  # of a prompt
GROUND, INK, PALE = (226, 226, 230), (30, 30, 30), (110, 110, 110)
CELL = (SIDE + GAP, SIDE + GAP + (LINES + 1) * LINE_HEIGHT)  # one line more for the seed


def write(run: Run, most: int = MOST, by: str | None = None) -> str | None:
    """Draw the sheet into the run directory; returns its path or URL, None where there is no picture."""
    if (data := sheet(run, most, by)) is None:
        return None
    run.store.replace(PATH, data)
    return f"{run.store}/{PATH}"


def sheet(run: Run, most: int = MOST, by: str | None = None) -> bytes | None:
    """The PNG; None where there is no picture. by: the column by which it is grouped; without it the cells."""
    chosen = sample.choose(run, most, by)
    seen = pictures.read(run, chosen.places)
    return draw(chosen.blocks, seen, title(run, chosen, seen)) if seen.pictures else None


def title(run: Run, chosen: Sample, seen: Seen) -> str:
    """Which run this is, of what, by what and when, in one line: names, and never where anything lies."""
    plan = run.plans[0]
    table = str(plan.stored["input"]["path"])
    tables = "several tables" if table.startswith("[") else table.rstrip("/").rpartition("/")[2]
    name = "/".join(run.store.url.rstrip("/").split("/")[-1 if plan.facts.limit is None else -2 :])
    count = f"{chosen.images} of {run.planned} images"
    days = sorted(seen.days)
    dated = f", {days[0]} to {days[-1]}" if len(days) > 1 else "".join(f", {day}" for day in days)
    return f"{name}: {count}{chosen.note and f' ({chosen.note})'}, {tables}, {model_name(plan)}{dated}"


def draw(blocks: Sequence[Block], seen: Seen, heading: str = "") -> bytes:
    """PNG. Pictures keep their aspect ratio; a heading or captions that are too long end in "..."."""
    columns = max((len(line) for block in blocks for line in block.lines), default=1)
    width = columns * CELL[0] + GAP
    above = wrapped(heading, width - 2 * GAP)
    tops = [len(above) * LINE_HEIGHT]
    for block in blocks:
        tops.append(tops[-1] + _head(block, width)[1] + len(block.lines) * CELL[1])
    drawn = Image.new("RGB", (width, tops[-1] + GAP), GROUND)
    _write(drawn, (GAP, GAP // 2), above)
    for block, top in zip(blocks, tops, strict=False):
        _draw_block(drawn, block, top, seen)
    return images.encode(np.asarray(drawn), "png")


def _head(block: Block, width: int) -> tuple[list[tuple[int, list[str]]], int]:
    """(left, lines) of what stands above a block, and how high all of it is."""
    named = [(GAP, wrapped(block.title, width - 2 * GAP, 1))] if block.title else []
    named += [
        (GAP + at * CELL[0], wrapped(visible(name).replace(",", ", "), SIDE, 2))
        for at, name in enumerate(block.headings)
    ]
    return named, max((len(lines) for _, lines in named), default=0) * LINE_HEIGHT


def _draw_block(drawn: Image.Image, block: Block, top: int, seen: Seen) -> None:
    named, high = _head(block, drawn.width)
    for left, lines in named:
        _write(drawn, (left, top + GAP // 2), lines)
    for down, line in enumerate(block.lines):
        for across, place in enumerate(line):
            corner = (GAP + across * CELL[0], top + high + GAP + down * CELL[1])
            if place is not None and place.image_id in seen.pictures:
                _draw_picture(drawn, corner, *seen.pictures[place.image_id])
            elif place is not None:
                _write(drawn, (corner[0], corner[1] + SIDE // 2), [f"failed: {place.error_code}"], PALE)


def _draw_picture(drawn: Image.Image, corner: tuple[int, int], pixels: images.Pixels, row: dict[str, Any]) -> None:
    picture = Image.fromarray(pixels)
    scale = SIDE / max(picture.size)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    place = corner[0] + (SIDE - size[0]) // 2, corner[1] + (SIDE - size[1]) // 2
    drawn.paste(picture.resize(size, Image.Resampling.LANCZOS), place)
    caption = wrapped(row["prompt"])
    _write(drawn, (corner[0], corner[1] + SIDE + 2), caption)
    seed = [f"seed {row['seed']}"] if row["seed"] is not None else []
    _write(drawn, (corner[0], corner[1] + SIDE + 2 + len(caption) * LINE_HEIGHT), seed, PALE)


def _write(drawn: Image.Image, corner: tuple[int, int], lines: Sequence[str], colour: Colour = INK) -> None:
    for number, text in enumerate(lines):
        lettering().draw(drawn, (corner[0], corner[1] + number * LINE_HEIGHT), text, colour)


@cache
def lettering() -> Lettering:
    """One for all sheets of a process: what its fonts have is found out once."""
    return Lettering()


def wrapped(caption: str, width: int = SIDE, most: int = LINES) -> list[str]:
    """At most so many lines that fit beneath a picture, or into another width. A word that is too long is divided."""
    lines, line = list[str](), ""
    for space, part in _parts(caption, width):
        longer = f"{line}{space}{part}" if line else part
        if not line or lettering().length(longer) <= width:
            line = longer
            continue
        lines.append(line)
        if len(lines) == most:
            return [*lines[:-1], _cut(longer, width)]
        line = part
    return [*lines, line] if line else lines


def _parts(caption: str, width: int) -> Iterator[tuple[str, str]]:
    """(what stands before it, a word, or a letter of a word that is longer than a line): Chinese has no spaces."""
    for word in caption.split():
        if lettering().length(word) <= width:
            yield " ", word
        else:
            yield from ((" " if at == 0 else "", letter) for at, letter in enumerate(clusters(word)))


def _cut(line: str, width: int) -> str:
    """As much of the line as fits with "..." after it."""
    letters = list(clusters(line))
    while letters and lettering().length("".join(letters) + "...") > width:
        letters.pop()
    return "".join(letters) + "..."
