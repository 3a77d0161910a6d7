"""One PNG that shows a run: small pictures with their prompts beneath.

Knows the run directory and Pillow. Reads shards until it has enough pictures, so its cost does not grow with the run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from batchgen.finalize.card import model_name
from batchgen.run import images
from batchgen.run.directory import Run
from batchgen.run.images import Pixels
from batchgen.run.layout import data_path

PATH = "contact_sheet.png"
MOST = 60  # pictures: ten rows, which a screen shows at a glance
COLUMNS = 6
LARGEST = 512  # pixels of the longer side of a thumbnail; sixty of them are 47 MB
SIDE = 192  # pixels of the longer side of each picture
GAP = 16
LINES = 3
FONT = ImageFont.load_default(size=13)
LINE_HEIGHT = 17
CELL = (SIDE + GAP, SIDE + GAP + LINES * LINE_HEIGHT)


def write(run: Run, most: int = MOST) -> str | None:
    """Draw the sheet into the run directory; returns its path or URL, None where nothing is committed."""
    shown = pictures(run, most)
    if not shown:
        return None
    captions = [row["prompt"] for _, row in shown]
    run.store.replace(PATH, draw([pixels for pixels, _ in shown], captions, title(run, len(shown))))
    return f"{run.store}/{PATH}"


def title(run: Run, shown: int) -> str:
    """Which run this is and of what, in one line: names, and never where anything lies."""
    plan = run.plans[0]
    table = str(plan.stored["input"]["path"])
    tables = "several tables" if table.startswith("[") else table.rstrip("/").rpartition("/")[2]
    name = "/".join(run.store.url.rstrip("/").split("/")[-1 if plan.facts.limit is None else -2 :])
    return f"{name}: {shown} of {run.planned} images, {tables}, {model_name(plan)}"


def pictures(run: Run, most: int) -> list[tuple[Pixels, dict[str, Any]]]:
    """(pixels, row) of at most so many committed images; the pixels as a thumbnail if they are more than LARGEST."""
    shown = list(itertools.islice(_committed(run), most))
    return sorted(shown, key=lambda item: str(item[1]["prompt"]))  # stable: those of a prompt stand side by side


def draw(pictures: Sequence[Pixels], captions: Sequence[str], title: str = "") -> bytes:
    """PNG. Pictures keep their aspect ratio; a title or captions that are too long end in "..."."""
    rows = -(-len(pictures) // COLUMNS)
    columns = min(COLUMNS, len(pictures))
    heading = wrapped(title, columns * CELL[0] - GAP)
    above = len(heading) * LINE_HEIGHT
    sheet = Image.new("RGB", (columns * CELL[0] + GAP, above + rows * CELL[1] + GAP), (226, 226, 230))
    brush = ImageDraw.Draw(sheet)
    for line, text in enumerate(heading):
        brush.text((GAP, GAP // 2 + line * LINE_HEIGHT), text, fill=(30, 30, 30), font=FONT)
    for number, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP + number % COLUMNS * CELL[0], above + GAP + number // COLUMNS * CELL[1]
        picture = Image.fromarray(pixels)
        scale = SIDE / max(picture.size)
        size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
        place = left + (SIDE - size[0]) // 2, top + (SIDE - size[1]) // 2
        sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), place)
        for line, text in enumerate(wrapped(caption)):
            brush.text((left, top + SIDE + 2 + line * LINE_HEIGHT), text, fill=(30, 30, 30), font=FONT)
    return images.encode(np.asarray(sheet), "png")


def wrapped(caption: str, width: int = SIDE) -> list[str]:
    """At most LINES lines that fit beneath a picture, or into another width."""
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if FONT.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [_cut(line, width) if FONT.getlength(line) > width else line for line in lines if line]
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], _cut(lines[LINES - 1], width)]


def _cut(line: str, width: int) -> str:
    """As much of the line as fits with "..." after it."""
    while line and FONT.getlength(line + "...") > width:
        line = line[:-1]
    return line + "..."


def _committed(run: Run) -> Iterator[tuple[Pixels, dict[str, Any]]]:
    """Rows of data/ in order of shards, without their pictures."""
    for number in sorted(run.committed()):
        with run.store.open_file(data_path(number)) as opened:
            for batch in pq.ParquetFile(opened).iter_batches(batch_size=8):
                for row in batch.to_pylist():
                    yield _thumbnail(images.decode(row.pop("image")["bytes"])), row


def _thumbnail(pixels: Pixels) -> Pixels:
    if max(pixels.shape) <= LARGEST:
        return pixels
    picture = Image.fromarray(pixels)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(picture)
