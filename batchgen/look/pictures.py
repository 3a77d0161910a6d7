"""The pictures of a sample, as thumbnails with their rows: of each data file only the row groups that hold them.

Knows the files of data/; not how the sample came about, nor how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from batchgen.errors import Infrastructure
from batchgen.look.sample import Place
from batchgen.run import images
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.directory import Run
from batchgen.run.images import Pixels
from batchgen.run.reading import in_order
from batchgen.run.shard_file import Footer

LARGEST = 512  # pixels of the longer side of a thumbnail; sixty of them are 47 MB
READERS = 4  # each holds one row group, at most 100 MB


@dataclass(frozen=True, slots=True)
class Seen:
    """image_id → (thumbnail, row of data/). days: on which their files were finished, as 2026-11-28, in UTC."""

    pictures: Mapping[str, tuple[Pixels, dict[str, Any]]] = field(default_factory=dict)
    days: frozenset[str] = frozenset()


def read(run: Run, places: Iterable[Place]) -> Seen:
    """Raises Infrastructure where a data file is gone or damaged."""
    wanted: dict[str, set[str]] = {}
    for place in places:
        if place.file is not None:
            wanted.setdefault(place.file, set()).add(place.image_id)
    pictures: dict[str, tuple[Pixels, dict[str, Any]]] = {}
    days = set[str]()
    for day, found in in_order(sorted(wanted), partial(_read, run, wanted), READERS, window=READERS):
        pictures |= found
        days.add(day)
    return Seen(pictures, frozenset(days))


def _read(run: Run, wanted: Mapping[str, set[str]], path: str) -> tuple[str, dict[str, tuple[Pixels, dict[str, Any]]]]:
    """The day on which a file was finished, and what is wanted of it."""
    found = dict[str, tuple[Pixels, dict[str, Any]]]()
    try:
        with found_damaged(), run.store.open_file(path) as opened:
            file = pq.ParquetFile(opened)
            day = datetime.fromtimestamp(Footer.from_metadata(file.schema_arrow.metadata).finished_at, UTC)
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, ["image_id"], use_threads=False)["image_id"]
                here = pc.is_in(ids, pc.cast(list(wanted[path]), ids.type))
                if pc.any(here).as_py():
                    for row in file.read_row_group(group, use_threads=False).filter(here).to_pylist():
                        found[row["image_id"]] = _thumbnail(images.decode(row.pop("image")["bytes"])), row
    except FileNotFoundError as error:
        raise Infrastructure(f"{run.store}/{path}: is missing. Run the render command again to render it.") from error
    except DAMAGED as error:
        raise Infrastructure(f"{run.store}/{path}: cannot be read ({error}). Run batchgen doctor.") from error
    return f"{day:%Y-%m-%d}", found


def _thumbnail(pixels: Pixels) -> Pixels:
    if max(pixels.shape) <= LARGEST:
        return pixels
    picture = Image.fromarray(pixels)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(picture)
