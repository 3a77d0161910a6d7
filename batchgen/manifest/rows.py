"""What a prompt row may say: texts that encoders can read, numbers in their ranges, sizes that the model can make.

Knows no files, no tokenizers and no images. Adds complaints to the rows, nulls what is complained about, never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.buckets import snap_side
from batchgen.config import (
    MAX_GUIDANCE,
    MAX_IMAGES_PER_PROMPT,
    MAX_SEED,
    MAX_STEPS,
    MAX_T5_TOKENS,
    Sampling,
)
from batchgen.manifest.columns import TEXTS
from batchgen.manifest.values import CODES, Mask, Rows, shown, without
from batchgen.models.presets import Preset
from batchgen.storage import redact

MAX_CHARACTERS = 20_000
MAX_ID_BYTES = 512
MAX_EXTRA_BYTES = 64 * 2**10
MAX_ASPECT = 4.0

CONTROLS = "[\x00-\x08\x0b\x0c\x0e-\x1f]"  # C0 without tab and line ends
ANY_CONTROL = "[\x00-\x1f\x7f]"
SECRET = "(?i)://[^\\s/@:]*:[^\\s@]*@|[?&]x-(amz|goog)-signature="  # what may be one; redact() knows
SECRET_SHOWN = 50  # characters of a URL without its secret
RATIO = re.compile(r"\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?:[:/x]\s*(\d+(?:\.\d+)?))?\s*", re.IGNORECASE)

RANGES: dict[str, tuple[float, float]] = {
    "num_inference_steps": (1, MAX_STEPS),
    "guidance_scale": (0, MAX_GUIDANCE),
    "skip_layer_guidance_scale": (0, MAX_GUIDANCE),
    "max_sequence_length": (1, MAX_T5_TOKENS),
    "num_images_per_prompt": (1, MAX_IMAGES_PER_PROMPT),
    "seed": (0, MAX_SEED),
}
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def check_rows(rows: Rows, sampling: Sampling, own_ids: bool, adapters: Sequence[str] = ()) -> None:
    """Everything that a row alone decides; sizes depend on the job and its cells too and follow in size_cell()."""
    _check_adapters(rows, adapters)
    _check_prompts(rows)
    for column in TEXTS:
        _check_text(rows, column)
    _check_ids(rows, own_ids)
    for column, (low, high) in RANGES.items():
        _check_range(rows, column, low, high)
    if not sampling.skip_guidance_layers:
        scales = rows.ours["skip_layer_guidance_scale"]
        text = "is {value}, but no layers are named: write sampling.skip_guidance_layers"
        _reject(rows, "skip_layer_guidance_scale", pc.greater(scales, 0), "BAD_GUIDANCE", text)
    _check_samples(rows, sampling)
    _check_extras(rows)


def flagged(mask: Any) -> list[int]:
    """Positions where an Arrow mask is true; null is false."""
    found: list[int] = np.flatnonzero(np.asarray(mask.fill_null(False))).tolist()
    return found


def _reject(rows: Rows, column: str, mask: Any, code: str, text: str) -> None:
    """One complaint for each row of the mask; {value} in the text stands for what was there. Nulls the values."""
    values = rows.ours[column]
    for row in (found := flagged(mask)):
        rows.complaints.about(row, column, code, text.replace("{value}", shown(values[row].as_py())))
    if found:
        rows.ours[column] = without(values, np.asarray(mask.fill_null(False)))


def _check_prompts(rows: Rows) -> None:
    prompts = rows.ours["prompt"]
    text = "is missing: write what the image shows"
    _reject(rows, "prompt", _missing(rows, "prompt"), "NULL_PROMPT", text)
    blank = pc.equal(pc.utf8_trim_whitespace(prompts), "")
    _reject(rows, "prompt", blank, "EMPTY_PROMPT", "is blank: write what the image shows")


def _missing(rows: Rows, column: str) -> pa.Array:
    """Nulls that the file has: not those of a line that is no row, nor those of values already complained about."""
    absent = np.asarray(rows.ours[column].is_null()).copy()
    for row in rows.complaints:
        if row in rows.unreadable or rows.complaints.mentions(row, column):
            absent[row] = False
    return pa.array(absent)


def _check_text(rows: Rows, column: str) -> None:
    texts = rows.ours[column]
    if texts.null_count == len(texts):
        return
    long = pc.greater(pc.utf8_length(texts), MAX_CHARACTERS)
    for row in flagged(long):
        text = f"has {len(texts[row].as_py()):,} characters: write at most {MAX_CHARACTERS:,}"
        rows.complaints.about(row, column, "PROMPT_TOO_LONG", text)
    rows.ours[column] = without(texts, np.asarray(long.fill_null(False)))
    strange = pc.match_substring_regex(rows.ours[column], CONTROLS)
    for row in flagged(strange):
        found = re.findall(CONTROLS, texts[row].as_py())[0]
        rows.complaints.about(row, column, "BAD_CHARS", f"holds the control character {found!r}: take it out")
    rows.ours[column] = without(rows.ours[column], np.asarray(strange.fill_null(False)))


def _check_adapters(rows: Rows, adapters: Sequence[str]) -> None:
    """Only aliases of the job: a row cannot name a file."""
    unknown = pc.invert(pc.is_in(rows.ours["adapter"], pa.array(["", *adapters], pa.string())))
    there = ", ".join(adapters) or "none is declared"
    unknown = pc.and_(unknown, rows.ours["adapter"].is_valid())
    _reject(rows, "adapter", unknown, "BAD_ADAPTER", f"is {{value}}: write an alias of model.adapters ({there})")


def _check_ids(rows: Rows, own_ids: bool) -> None:
    if not own_ids:
        rows.ours["id"] = pa.nulls(len(rows), pa.string())
        return
    text = "is missing, but other rows have one: give every row an id"
    _reject(rows, "id", _missing(rows, "id"), "NULL_ID", text)
    ids = rows.ours["id"]
    long = pc.greater(pc.binary_length(ids), MAX_ID_BYTES)
    _reject(rows, "id", long, "BAD_ID", f"is longer than {MAX_ID_BYTES} bytes: write a shorter one")
    strange = pc.or_kleene(pc.match_substring_regex(ids, ANY_CONTROL), pc.equal(ids, ""))
    _reject(rows, "id", strange, "BAD_ID", "is {value}: write text without control characters")


def _check_range(rows: Rows, column: str, low: float, high: float) -> None:
    values = rows.ours[column]
    if values.null_count == len(values):
        return
    outside = pc.invert(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)))  # NaN is outside
    what = "numbers from" if isinstance(high, float) else "integers from"
    _reject(rows, column, outside, CODES[column], f"is {{value}}: write {what} {low} to {high}")


def _check_samples(rows: Rows, sampling: Sampling) -> None:
    """The last sample's seed must exist too: seed + sample_index, or one of `sampling.seeds` each."""
    samples, seeds = samples_of(rows, sampling), rows.ours["seed"]
    if seeds.null_count < len(seeds):
        last = pc.greater(seeds, pa.array(MAX_SEED - samples + 1))
        _reject(rows, "seed", last, "BAD_SEED", f"is {{value}}, which with sample_index passes {MAX_SEED}: write less")
    if sampling.seeds is not None:
        given = len(sampling.seeds)
        short = pc.and_(pa.array(samples > given), seeds.is_null())
        text = f"is {{value}}, but sampling.seeds has {given} entries: give as many, or a seed column"
        _reject(rows, "num_images_per_prompt", short, "BAD_NUM_IMAGES", text)


def samples_of(rows: Rows, sampling: Sampling) -> Ints:
    """Images of each row in each cell."""
    return np.asarray(rows.ours["num_images_per_prompt"].fill_null(sampling.num_images_per_prompt))


def _check_extras(rows: Rows) -> None:
    texts = [values for values in rows.extras.values() if pa.types.is_string(values.type)]
    if not texts:
        return
    sizes = np.full(len(rows), 8 * (len(rows.extras) - len(texts)), np.int64)
    for values in texts:
        sizes += np.asarray(pc.binary_length(values).fill_null(0), np.int64)
    for row in np.flatnonzero(sizes > MAX_EXTRA_BYTES).tolist():
        text = f"the row's own columns hold {sizes[row]:,} bytes, at most {MAX_EXTRA_BYTES:,} pass through: "
        rows.complaints.add(row, "EXTRAS_TOO_LARGE", text + "leave some out with input.keep_columns")
    for name, values in rows.extras.items():
        rows.extras[name] = without(values, sizes > MAX_EXTRA_BYTES)
        if pa.types.is_string(values.type):
            _check_secrets(rows, name)


def _check_secrets(rows: Rows, name: str) -> None:
    """Extras are published with the pictures, and a URL in them may open somebody's bucket."""
    values = rows.extras[name]
    secret = np.zeros(len(values), np.bool_)
    for row in flagged(pc.match_substring_regex(values, SECRET)):
        text = values[row].as_py()
        hidden = redact(text)
        secret[row] = hidden != text
        if secret[row]:
            near = hidden[max(0, hidden.find("***") - 40) :][:SECRET_SHOWN]
            said = f"holds credentials ({shown(near)}): take them out, or leave it out with input.keep_columns"
            rows.complaints.about(row, name, "SECRET_IN_URI", said)
    rows.extras[name] = without(values, secret)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Per prompt row, in one cell. requested_*: what was asked for, 0 where that is what it gets."""

    height: Ints
    width: Ints
    requested_height: Ints
    requested_width: Ints


def size_cell(rows: Rows, sampling: Sampling, values: Mapping[str, Any], preset: Preset, cell: str) -> Sizes:
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
    _check_limits(rows, height, width, sizes, preset, cell)
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
    _reject(
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


def _check_limits(rows: Rows, height: Ints, width: Ints, sizes: Sizes, preset: Preset, cell: str) -> None:
    within = "" if cell == "default" else f" (in cell {cell})"
    wrong = (height <= 0) | (width <= 0) | ~possible(sizes.height, sizes.width, preset)
    for row in np.flatnonzero(wrong).tolist():
        if not rows.complaints.mentions(row, "height", "width", "aspect_ratio"):
            text = f"and width are {height[row]} × {width[row]}{within}: {limits_text(preset)}"
            rows.complaints.about(row, "height", "BAD_SIZE", text)


def possible(height: Any, width: Any, preset: Preset) -> Any:
    """Whether the model can make this size; takes ints or arrays, snapped."""
    area, longest = height * width, np.maximum(height, width)
    return (
        (area >= preset.min_pixels)
        & (area <= preset.max_pixels)
        & (longest <= preset.max_side)
        & (longest <= MAX_ASPECT * np.minimum(height, width))
    )


def limits_text(preset: Preset) -> str:
    return (
        f"write sides that make {preset.min_pixels:,} to {preset.max_pixels:,} pixels, "
        f"none above {preset.max_side}, at most 4:1"
    )
