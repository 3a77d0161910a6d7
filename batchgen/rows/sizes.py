"""Heights and widths: what a row, a cell or an aspect ratio asks for, snapped, and which sizes a model can make.

Knows prompt rows and the preset's limits, no files and no images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.errors import Problem, Refused
from batchgen.job import Job, Model, Refine, Sampling
from batchgen.job.steps import SNAP, snap, snap_side
from batchgen.manifest.checks import Ints, reject
from batchgen.manifest.values import Mask, Rows
from batchgen.run.found_model import FoundModel
from batchgen.weights.parts import longest_side

MAX_ASPECT = 4.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Which sizes a model can make. positions: only how far its positions reach is a limit.

    trained: the sizes that its preset was trained for, where the limits are others. enlarged: by refine.scale.
    """

    min_pixels: int
    max_pixels: int
    max_side: int
    max_aspect: float = MAX_ASPECT
    positions: bool = False
    trained: Limits | None = None
    enlarged: float = 1.0

    def hold(self, height: Any, width: Any) -> Any:
        """Whether this size is within them; takes ints or arrays, snapped."""
        area, longest = height * width, np.maximum(height, width)
        return (
            (area >= self.min_pixels)
            & (area <= self.max_pixels)
            & (longest <= self.max_side)
            & (longest <= self.max_aspect * np.minimum(height, width))
        )

    def __str__(self) -> str:
        again = f", which refine.scale {self.enlarged:g} enlarges" if self.enlarged > 1 else ""
        if self.positions:
            source = "pos_embed_max_size in the model's transformer/config.json"
            return f"sides of {SNAP} to {self.max_side} pixels{again} ({source})"
        pixels = f"{self.min_pixels:,} to {self.max_pixels:,} pixels"
        return f"sides that make {pixels}, none above {self.max_side}{again}, at most {self.max_aspect:g}:1"


def limits(job: Job, model: FoundModel | None) -> Limits:
    """Of a job, with sides that a second pass, if there is one, can still enlarge. model: what was found of its model.

    Weights that are not the preset's own are limited by their positions alone: what they were trained for, only their
    owner knows.
    """
    refiner = job.refine.model if job.refine else None
    second = model and (model.refiner if refiner else model)
    trained = _with_second(_trained(job.model), _trained(refiner or job.model), job.refine)
    found = _with_second(_possible(job.model, model), _possible(refiner or job.model, second), job.refine)
    return found if found == trained else replace(found, trained=trained)


def _trained(model: Model) -> Limits:
    preset = model.defaults
    return Limits(preset.min_pixels, preset.max_pixels, preset.max_side)


def _possible(model: Model, files: FoundModel | None) -> Limits:
    longest = longest_side(files.tokenizers) if files is not None and model.has_own_weights else None
    if longest is None:
        return _trained(model)
    return Limits(SNAP**2, longest**2, longest, max_aspect=math.inf, positions=True)


def _with_second(first: Limits, second: Limits, refine: Refine | None) -> Limits:
    """first, with no side that refine would make longer than second allows."""
    if refine is None:
        return first
    return replace(first, max_side=min(first.max_side, int(second.max_side / refine.scale)), enlarged=refine.scale)


def refuse_impossible_sizes(job: Job, model: FoundModel | None) -> None:
    """Raises Refused where the job's own size, in some cell, is one that the model cannot make.

    model: None where it was not found, so that of weights of one's own nothing is known.
    """
    if model is None and (job.model.has_own_weights or (job.refine and job.refine.model)):
        return
    found, problems = limits(job, model), []
    for cell, values in job.sweep.by_cell().items():
        height, width = values.get("height", job.sampling.height), values.get("width", job.sampling.width)
        if not found.hold(*snap(height, width)):
            where = "sampling: height, width" if cell == "default" else f"sweep: cell {cell}"
            problems.append(Problem(f"{height} × {width} cannot be made: write {found}.", where))
    if problems:
        raise Refused(problems)


RATIO = re.compile(r"\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?:[:/x]\s*(\d+(?:\.\d+)?))?\s*", re.IGNORECASE)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Per prompt row, in one cell. requested_*: what was asked for, 0 where that is what it gets."""

    height: Ints
    width: Ints
    requested_height: Ints
    requested_width: Ints

    def of(self, rows: Ints) -> Sizes:
        """Those of some prompt rows."""
        return Sizes(self.height[rows], self.width[rows], self.requested_height[rows], self.requested_width[rows])


def size_cell(rows: Rows, sampling: Sampling, values: Mapping[str, Any], within: Limits, cell: str) -> Sizes:
    """Heights and widths of all rows in one cell, snapped; complains where the model cannot make them.

    A swept side stands for every row; a row's own side for that row; `aspect_ratio` spreads the job's area.
    """
    height, has_height = _side(rows.ours["height"], values.get("height"), sampling.height)
    width, has_width = _side(rows.ours["width"], values.get("width"), sampling.width)
    own_height, own_width = (np.asarray(rows.ours[name].is_valid()) for name in ("height", "width"))
    ratios, has_ratio = _ratios(rows)
    _check_pairs(rows, own_height, own_width, has_height, has_width, has_ratio)
    both = has_height & has_width
    shaped = has_ratio & ~both
    area = float(sampling.height * sampling.width)
    with np.errstate(all="ignore"):
        free = np.where(has_height, height, np.where(has_width, width / ratios, np.sqrt(area / ratios)))
        height = np.where(shaped, np.rint(np.nan_to_num(free)), height).astype(np.int64)
        free = np.where(has_width, width, np.where(has_height, height * ratios, np.sqrt(area * ratios)))
        width = np.where(shaped, np.rint(np.nan_to_num(free)), width).astype(np.int64)
    sizes = _snapped(height, width, shaped & ~has_height, shaped & ~has_width)
    _check_limits(rows, height, width, sizes, within, cell)
    return sizes


def _side(own: pa.Array, swept: int | None, default: int) -> tuple[Ints, Mask]:
    """One side of every row, and whether anybody but the job's default said it."""
    if swept is not None:
        return np.full(len(own), swept, np.int64), np.ones(len(own), np.bool_)
    return np.asarray(own.fill_null(default)), np.asarray(own.is_valid())


def _check_pairs(
    rows: Rows, own_height: Mask, own_width: Mask, has_height: Mask, has_width: Mask, has_ratio: Mask
) -> None:
    """A row gives both sides, an aspect ratio, or neither."""
    for column, other, alone in (
        ("height", "width", own_height & ~has_width),
        ("width", "height", own_width & ~has_height),
    ):
        for row in np.flatnonzero(alone & ~has_ratio).tolist():
            if not rows.complaints.mentions(row, "height", "width", "aspect_ratio"):
                rows.complaints.about(row, column, "BAD_SIZE", f"stands without {other}: give both, or aspect_ratio")
    for row in np.flatnonzero(has_ratio & own_height & own_width).tolist():
        if not rows.complaints.mentions(row, "aspect_ratio"):
            text = "stands beside height and width: give either the two or the ratio"
            rows.complaints.about(row, "aspect_ratio", "BAD_ASPECT_RATIO", text)


def _ratios(rows: Rows) -> tuple[Floats, Mask]:
    """Width over height where a row gives it; complains about text that is no ratio."""
    texts = rows.ours["aspect_ratio"]
    ratios = np.ones(len(rows), np.float64)
    if texts.null_count == len(texts):
        return ratios, np.zeros(len(rows), np.bool_)
    encoded = texts.dictionary_encode()
    values = np.array([*map(_parse_ratio, encoded.dictionary.to_pylist()), 1.0])
    ratios = values[np.asarray(encoded.indices.fill_null(len(values) - 1))]
    wrong = ~((ratios >= 1 / MAX_ASPECT) & (ratios <= MAX_ASPECT))
    reject(
        rows,
        "aspect_ratio",
        pa.array(wrong),
        "BAD_ASPECT_RATIO",
        "is {value}: write width:height from 1:4 to 4:1, such as 16:9",
    )
    return np.where(wrong, 1.0, ratios), np.asarray(texts.is_valid()) & ~wrong


def _parse_ratio(text: str) -> float:
    """16:9, 16/9, 16x9 or 1.78; NaN for anything else."""
    match = RATIO.fullmatch(text) if len(text) <= 40 else None
    if not match:
        return float("nan")
    width, height = float(match[1]), float(match[2] or 1)
    return width / height if height else float("nan")


def _snapped(height: Ints, width: Ints, free_height: Mask, free_width: Mask) -> Sizes:
    """free_*: sides that nobody asked for in pixels, so that nothing was requested."""
    limit = np.int64(10**9)  # far above any model, far below where products overflow
    snapped_height = snap_side(np.clip(height, 1, limit))
    snapped_width = snap_side(np.clip(width, 1, limit))
    return Sizes(
        snapped_height,
        snapped_width,
        np.where((snapped_height != height) & ~free_height, height, 0),
        np.where((snapped_width != width) & ~free_width, width, 0),
    )


def _check_limits(rows: Rows, height: Ints, width: Ints, sizes: Sizes, within: Limits, cell: str) -> None:
    swept = "" if cell == "default" else f" (in cell {cell})"
    wrong = (height <= 0) | (width <= 0) | ~within.hold(sizes.height, sizes.width)
    for row in np.flatnonzero(wrong).tolist():
        if not rows.complaints.mentions(row, "height", "width", "aspect_ratio"):
            text = f"and width are {height[row]} × {width[row]}{swept}: write {within}"
            rows.complaints.about(row, "height", "BAD_SIZE", text)
