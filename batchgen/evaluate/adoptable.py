"""A folder of images that were made elsewhere → the rows of a plan, and the picture of each row.

Which file shows which prompt, the benchmark's own rule says. Knows no run.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from batchgen import schema
from batchgen.columns import PLANNED
from batchgen.errors import Refused
from batchgen.evaluate.benchmark import Benchmark, Found, Prompt
from batchgen.rows import identity
from batchgen.run import images
from batchgen.run.images import Pixels
from batchgen.storage.store import Store

FILE = "adopted_file"  # column: where the image lay in its folder
TILE = "adopted_tile"  # column: '2 of 2x2' of a file that holds several, else null
ABSENT = "NOT_IN_FOLDER"
SETTINGS = {column.name for column in PLANNED} - {"image_id", "prompt_id", "sample_index", "cell", "prompt"}


@dataclass(frozen=True, slots=True)
class Adoptable:
    """rows: of the images, in the order of the manifest; absent: rows that the folder has no image for.

    extras: the columns that pass through. image_format: in which they are stored. digest: of names and contents.
    """

    rows: list[dict[str, Any]]
    absent: list[dict[str, Any]]
    extras: list[pa.Field]
    image_format: str
    digest: str


def look(store: Store, benchmark: Benchmark, manifest: pa.Table, known: Mapping[str, Any]) -> Adoptable:
    """known: settings that all images were made with, by the names of columns. Raises Refused."""
    _refuse_unknown(known)
    prompts = {row["benchmark_id"]: row for row in manifest.to_pylist()}
    asked = [
        Prompt(
            benchmark_id=one, prompt=row["benchmark_prompt"], record=row["benchmark_record"], category=row["category"]
        )
        for one, row in prompts.items()
    ]
    found = [one for one in benchmark.find(store, asked) if one.benchmark_id in prompts]
    if not found:
        problems = "; ".join(list(benchmark.check(store, asked))[:5])
        raise Refused(f"{store}: has no images where the scorer of {benchmark.title} looks for them: {problems}.")
    _refuse_several(store, found)
    by_prompt: dict[str, list[Found]] = {}
    for one in found:
        by_prompt.setdefault(one.benchmark_id, []).append(one)
    digests: dict[str, tuple[str, str, int, int]] = {}
    rows, absent = list[dict[str, Any]](), list[dict[str, Any]]()
    for name, prompt in prompts.items():
        there = {one.sample: one for one in by_prompt.get(name, [])}
        for sample in range(max([prompt.get("num_images_per_prompt") or 1, *(sample + 1 for sample in there)])):
            if (image := there.get(sample)) is None:
                absent.append(_row(prompt, sample, known, "", None, "absent"))
                continue
            if image.path not in digests:
                digests[image.path] = _facts(store, image.path)
            sha256, _, height, width = digests[image.path]
            row = _row(prompt, sample, known, image.path, _tile(image), sha256)
            rows.append(row | {"height": height // image.grid[1], "width": width // image.grid[0]})
    formats = {image_format for _, image_format, _, _ in digests.values()}
    whole = all(one.grid == (1, 1) for one in found)
    return Adoptable(
        rows=rows,
        absent=absent,
        extras=[*_passed(manifest), pa.field(FILE, pa.string()), pa.field(TILE, pa.string())],
        image_format=formats.pop() if len(formats) == 1 and whole and "" not in formats else "png",
        digest=identity.digest(sorted((path, facts[0]) for path, facts in digests.items())),
    )


def picture_of(data: bytes, tile: str | None, image_format: str) -> tuple[bytes, Pixels]:
    """An image as it is to be stored: the bytes as they were, where that is possible. Raises ValueError."""
    pixels = images.decode(data)
    if tile is None and images.is_in(data, image_format):
        return data, pixels
    if tile is not None:
        number, _, grid = tile.partition(" of ")
        columns, rows = (int(side) for side in grid.split("x"))
        height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
        top, left = (int(number) // columns) * height, (int(number) % columns) * width
        pixels = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    return images.encode(pixels, image_format), pixels


def _refuse_unknown(known: Mapping[str, Any]) -> None:
    if unknown := sorted(set(known) - SETTINGS):
        raise Refused(f"{', '.join(unknown)}: no setting of an image. There are {', '.join(sorted(SETTINGS))}.")


def _refuse_several(store: Store, found: Sequence[Found]) -> None:
    counts = Counter((one.benchmark_id, one.sample) for one in found)
    if several := [key for key, count in counts.items() if count > 1]:
        paths = ", ".join(one.path for one in found if (one.benchmark_id, one.sample) == several[0])
        raise Refused(
            f"{store}: has several images for {len(several)} places, such as {paths}. Adopt the images of one model at "
            "a time, from a folder that holds no others."
        )


def _facts(store: Store, path: str) -> tuple[str, str, int, int]:
    """sha256, format or '', height and width of a file; a file that is no picture has no size and fails later."""
    data = store.read(path)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image_format = (opened.format or "").lower()
            return sha256, image_format if image_format in images.FORMATS else "", opened.height, opened.width
    except images.BROKEN:
        return sha256, "", 0, 0


def _tile(one: Found) -> str | None:
    return None if one.grid == (1, 1) else f"{one.tile} of {one.grid[0]}x{one.grid[1]}"


def _row(
    prompt: Mapping[str, Any], sample: int, known: Mapping[str, Any], path: str, tile: str | None, content: str
) -> dict[str, Any]:
    own = {key: value for key, value in prompt.items() if key not in schema.OWN_COLUMNS and key != "id"}
    own.pop("num_images_per_prompt", None)
    name = str(prompt["id"])
    row = own | dict(known) | {"prompt": prompt["prompt"], FILE: path or None, TILE: tile, "cell": ""}
    decides = {"adopted": content, "tile": tile or "", "path": path}
    return row | {
        "image_id": identity.image_id(name, sample, "", decides), "prompt_id": name, "sample_index": sample,
    }  # fmt: skip


def _passed(manifest: pa.Table) -> Iterator[pa.Field]:
    left_out = {*schema.OWN_COLUMNS, "id", "num_images_per_prompt"}
    return (field for field in manifest.schema if field.name not in left_out)
