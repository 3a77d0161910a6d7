"""What a prompt row may say: texts that encoders can read, numbers in their ranges, sizes that the model can make.

Knows no files, no tokenizers and no images. Adds complaints to the rows, nulls what is complained about, never raises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.columns import CODES, LIMITS, MAX_SEED, TEXTS
from batchgen.job import Sampling
from batchgen.manifest.values import Rows, shown, without
from batchgen.words import SECRET_URL, redact

MAX_CHARACTERS = 20_000
MAX_ID_BYTES = 512
MAX_EXTRA_BYTES = 64 * 2**10

CONTROLS = "[\x00-\x08\x0b\x0c\x0e-\x1f]"  # C0 without tab and line ends
ANY_CONTROL = "[\x00-\x1f\x7f]"
SECRET_SHOWN = 50  # characters of a URL without its secret

Ints = npt.NDArray[np.int64]


def check_rows(
    rows: Rows, sampling: Sampling, own_ids: bool, adapters: Sequence[str] = (), *, layers: bool = True
) -> None:
    """Everything that a row alone decides; sizes depend on the job and its cells too and follow in size_cell().

    layers: whether skip-layer guidance has layers in every cell.
    """
    _check_adapters(rows, adapters)
    _check_prompts(rows)
    for column in TEXTS:
        rows.ours[column] = check_text(rows, column, rows.ours[column])
    _check_ids(rows, own_ids)
    for column, (low, high) in LIMITS.items():
        _check_range(rows, column, low, high)
    if not layers:
        scales = rows.ours["skip_layer_guidance_scale"]
        text = "is {value}, but no layers are named: write sampling.skip_guidance_layers"
        reject(rows, "skip_layer_guidance_scale", pc.greater(scales, 0), "BAD_GUIDANCE", text)
    _check_samples(rows, sampling)
    _check_extras(rows)


def flagged(mask: Any) -> list[int]:
    """Positions where an Arrow mask is true; null is false."""
    found: list[int] = np.flatnonzero(np.asarray(mask.fill_null(False))).tolist()
    return found


def reject(rows: Rows, column: str, mask: Any, code: str, text: str) -> None:
    """One complaint for each row of the mask; {value} in the text stands for what was there. Nulls the values."""
    values = rows.ours[column]
    for row in (found := flagged(mask)):
        rows.complaints.about(row, column, code, text.replace("{value}", shown(values[row].as_py())))
    if found:
        rows.ours[column] = without(values, np.asarray(mask.fill_null(False)))


def _check_prompts(rows: Rows) -> None:
    prompts = rows.ours["prompt"]
    text = "is missing: write what the image shows"
    reject(rows, "prompt", _missing(rows, "prompt"), "NULL_PROMPT", text)
    blank = pc.equal(pc.utf8_trim_whitespace(prompts), "")
    reject(rows, "prompt", blank, "EMPTY_PROMPT", "is blank: write what the image shows")


def _missing(rows: Rows, column: str) -> pa.Array:
    """Nulls that the file has: not those of a line that is no row, nor those of values already complained about."""
    absent = np.asarray(rows.ours[column].is_null()).copy()
    for row in rows.complaints:
        if row in rows.unreadable or rows.complaints.mentions(row, column):
            absent[row] = False
    return pa.array(absent)


def check_text(rows: Rows, column: str, texts: pa.Array) -> pa.Array:
    """The texts that encoders can read, null where one cannot. column: where they come from."""
    if texts.null_count == len(texts):
        return texts
    long = pc.greater(pc.utf8_length(texts), MAX_CHARACTERS)
    for row in flagged(long):
        text = f"has {len(texts[row].as_py()):,} characters: write at most {MAX_CHARACTERS:,}"
        rows.complaints.about(row, column, "PROMPT_TOO_LONG", text)
    kept = without(texts, np.asarray(long.fill_null(False)))
    strange = pc.match_substring_regex(kept, CONTROLS)
    for row in flagged(strange):
        found = re.findall(CONTROLS, texts[row].as_py())[0]
        rows.complaints.about(row, column, "BAD_CHARS", f"holds the control character {found!r}: take it out")
    return without(kept, np.asarray(strange.fill_null(False)))


def _check_adapters(rows: Rows, adapters: Sequence[str]) -> None:
    """Only aliases of the job: a row cannot name a file."""
    unknown = pc.invert(pc.is_in(rows.ours["adapter"], pa.array(["", *adapters], pa.string())))
    there = ", ".join(adapters) or "none is declared"
    unknown = pc.and_(unknown, rows.ours["adapter"].is_valid())
    reject(rows, "adapter", unknown, "BAD_ADAPTER", f"is {{value}}: write an alias of model.adapters ({there})")


def _check_ids(rows: Rows, own_ids: bool) -> None:
    if not own_ids:
        rows.ours["id"] = pa.nulls(len(rows), pa.string())
        return
    text = "is missing, but other rows have one: give every row an id"
    reject(rows, "id", _missing(rows, "id"), "NULL_ID", text)
    ids = rows.ours["id"]
    long = pc.greater(pc.binary_length(ids), MAX_ID_BYTES)
    reject(rows, "id", long, "BAD_ID", f"is longer than {MAX_ID_BYTES} bytes: write a shorter one")
    strange = pc.or_kleene(pc.match_substring_regex(ids, ANY_CONTROL), pc.equal(ids, ""))
    reject(rows, "id", strange, "BAD_ID", "is {value}: write text without control characters")


def _check_range(rows: Rows, column: str, low: float, high: float) -> None:
    values = rows.ours[column]
    if values.null_count == len(values):
        return
    outside = pc.invert(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)))  # NaN is outside
    what = "numbers from" if isinstance(high, float) else "integers from"
    reject(rows, column, outside, CODES[column], f"is {{value}}: write {what} {low} to {high}")


def _check_samples(rows: Rows, sampling: Sampling) -> None:
    """The last sample's seed must exist too: seed + sample_index, or one of `sampling.seeds` each."""
    samples, seeds = samples_of(rows, sampling), rows.ours["seed"]
    if seeds.null_count < len(seeds):
        last = pc.greater(seeds, pa.array(MAX_SEED - samples + 1))
        reject(
            rows,
            "seed",
            last,
            "BAD_SEED",
            f"is {{value}}, which with sample_index passes {MAX_SEED}: write its remainder by 2^32, the same noise",
        )
    if sampling.seeds is not None:
        given = len(sampling.seeds)
        short = pc.and_(pa.array(samples > given), seeds.is_null())
        text = f"is {{value}}, but sampling.seeds has {given} entries: give as many, or a seed column"
        reject(rows, "num_images_per_prompt", short, "BAD_NUM_IMAGES", text)


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
    # SECRET_URL finds what may be one, redact() knows.
    for row in flagged(pc.match_substring_regex(values, SECRET_URL)):
        text = values[row].as_py()
        hidden = redact(text)
        secret[row] = hidden != text
        if secret[row]:
            near = hidden[max(0, hidden.find("***") - 40) :][:SECRET_SHOWN]
            said = f"holds credentials ({shown(near)}): take them out, or leave it out with input.keep_columns"
            rows.complaints.about(row, name, "SECRET_IN_URI", said)
    rows.extras[name] = without(values, secret)
