"""batchgen turns a table of prompts into a dataset of images. Importing it loads neither Ray nor torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchgen.results import Results

__version__ = "0.1.0"


def open(out: str) -> Results:
    """The run in a directory, a path or a URL, as data: .to_pandas(), .row(image_id), .image(image_id), .dataset()."""
    from batchgen.results import Results

    return Results(out)
