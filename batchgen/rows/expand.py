"""One prompt row → its image rows, cell by cell and sample by sample, or one row that says what is wrong with it.

Works on whole sources with Arrow and numpy; only names are made one by one. Knows no Ray and no torch, and leaves to
others which values are bad (`manifest.checks`, `sizes`, `taken`) and what a cell asks for (`grid`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.columns import TEXTS
from batchgen.errors import Refused
from batchgen.job import Errors, OnOverflow
from batchgen.manifest.checks import Ints, check_rows, samples_of
from batchgen.manifest.formats import Source, place
from batchgen.manifest.values import Rows, read_rows
from batchgen.rows.bucketing import bucket_labels
from batchgen.rows.expansion import Expansion
from batchgen.rows.grid import Distinct, Grid, Positions
from batchgen.rows.idle import check_windows
from batchgen.rows.naming import derived_seeds, image_ids, prompt_ids, replaced
from batchgen.rows.sizes import Sizes, size_cell
from batchgen.rows.taken import check_sides, check_taken
from batchgen.rows.tokens import Texts, TokenCounter
from batchgen.rows.worded import prompts_of
from batchgen.run import rules
from batchgen.schema import expanded_schema
from batchgen.words import redact

PART_ROWS = 20_000  # image rows of one table
PART_BYTES = 256 * 2**20  # of their texts
MAX_ROW_BYTES = 2**30  # of one prompt row's image rows: an Arrow string column ends at 2 GiB
OVERFLOW_CLIP, OVERFLOW_T5 = "OVERFLOW_CLIP", "OVERFLOW_T5"
DAMAGED = "DAMAGED"  # a source that cannot be read: nobody knows how many rows are lost, so it is never skipped


def refused(code: str, errors: Errors) -> bool:
    """Whether a row with this code stops the job instead of being skipped."""
    if code == DAMAGED:
        return True
    if code in (OVERFLOW_CLIP, OVERFLOW_T5):
        return (errors.on_overflow.clip if code == OVERFLOW_CLIP else errors.on_overflow.t5) == "refuse"
    return errors.bad_rows == "refuse"


def expand_in_parts(source: Source, expansion: Expansion, counter: TokenCounter) -> Iterator[pa.Table]:
    """All image rows of a source, in manifest order, as tables of bounded size; a prompt row is never divided.

    Raises Refused where the file is damaged or has changed, Infrastructure where it cannot be reached.
    """
    rows = read_rows(source, expansion.columns, expansion.extras)
    if expansion.pipeline is not None:
        check_taken(rows, expansion.pipeline)
    layers = all(cell.sampling.skip_guidance_layers for cell in expansion.cells.values())
    check_rows(rows, expansion.sampling, source.own_ids, [*expansion.adapters], layers=layers)
    worded = prompts_of(rows, [cell.values.get("prompt") for cell in expansion.cells.values()])
    if rules.IDLE in expansion.rules:
        check_windows(rows, expansion.cells)
    sizes = [
        size_cell(rows, expansion.sampling, cell.values, expansion.limits, name)
        for name, cell in expansion.cells.items()
    ]
    if expansion.pipeline is not None:
        check_sides(rows, sizes, expansion.pipeline)
    prompts = _Prompts(rows, sizes, worded, expansion, source)
    for start, stop in prompts.parts():
        yield prompts.images(start, stop, counter)


def expand_or_complain(source: Source, expansion: Expansion, counter: TokenCounter) -> Iterator[pa.Table]:
    """The same, but a source that cannot be read becomes a row that says so: other sources may have complaints too."""
    try:
        yield from expand_in_parts(source, expansion, counter)
    except Refused as refusal:
        problems = refusal.problems
        columns = {
            "prompt_id": [f"{problem} ({number})" for number, problem in enumerate(problems)],
            "sample_index": np.zeros(len(problems), np.int32),
            "cell": ["default"] * len(problems),
            "prompt_row": np.arange(len(problems)),
            "skip_code": [DAMAGED] * len(problems),
            "skip_message": [problem.message for problem in problems],
            "where": [problem.where for problem in problems],
            "seed_derived": np.zeros(len(problems), np.bool_),
        }
        yield _typed(columns, len(problems), expansion.passed)


class _Prompts:
    """The checked prompt rows of one source on their way to image rows."""

    def __init__(
        self,
        rows: Rows,
        sizes: Sequence[Sizes],
        worded: Mapping[str | None, pa.Array],
        expansion: Expansion,
        source: Source,
    ) -> None:
        """sizes: of all rows, cell by cell. worded: their prompts, as cells say them."""
        self._worded = worded
        self._rows, self._sizes, self._expansion, self._source = rows, sizes, expansion, source
        self._samples = samples_of(rows, expansion.sampling)
        self._guided_again = np.array([cell.guided_again for cell in expansion.cells.values()])
        self._bytes = _text_bytes(rows, worded)
        self._check_bulk()
        self._good = np.ones(len(rows), np.bool_)
        self._good[list(rows.complaints)] = False
        self._ids = prompt_ids(rows)

    def _check_bulk(self) -> None:
        """One prompt row is one table, and what its images repeat must fit it."""
        bulk = self._samples * len(self._expansion.cells) * self._bytes
        for row in np.flatnonzero(bulk > MAX_ROW_BYTES).tolist():
            text = f"asks for {self._samples[row]:,} images of a row with {self._bytes[row]:,} bytes of text: divide it"
            self._rows.complaints.about(row, "num_images_per_prompt", "BAD_NUM_IMAGES", text)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Ranges of prompt rows whose image rows make one table each."""
        images = np.where(self._good, self._samples * len(self._expansion.cells), 1)
        weights = np.maximum(images / PART_ROWS, images * self._bytes / PART_BYTES)
        part = np.floor(np.cumsum(weights) - weights).astype(np.int64)
        starts = [*np.flatnonzero(np.r_[True, part[1:] != part[:-1]]).tolist(), len(images)] if len(images) else []
        yield from itertools.pairwise(starts)

    def images(self, start: int, stop: int, counter: TokenCounter) -> pa.Table:
        """The image rows of prompt rows start to stop."""
        inside = np.arange(start, stop)
        good, bad = inside[self._good[inside]], inside[~self._good[inside]]
        tables = [self._images_of(good, counter)] if len(good) else []
        if len(bad):
            tables.append(self._bad(bad))
        table = pa.concat_tables(tables)
        return table.take(pa.array(np.argsort(table["prompt_row"].to_numpy(), kind="stable"))) if len(bad) else table

    def _images_of(self, good: Ints, counter: TokenCounter) -> pa.Table:
        """good: positions of prompt rows without a complaint."""
        prompts = {name: values.take(pa.array(good)) for name, values in self._rows.ours.items()}
        worded = {text: values.take(pa.array(good)) for text, values in self._worded.items()}
        grid = Grid.of(self._expansion, prompts, [size.of(good) for size in self._sizes], worded)
        images = Positions.of(self._samples[good], len(self._expansion.cells))
        columns: dict[str, Any] = grid.at(images.row, images.cell)
        columns["prompt_id"] = pa.array(self._ids[good]).take(pa.array(images.row))
        columns["sample_index"] = images.sample
        columns["cell"] = pa.array([*self._expansion.cells]).take(pa.array(images.cell))
        columns |= self._swept(images)
        columns["benchmark_prompt"] = prompts["prompt"].take(pa.array(images.row))
        columns["prompt_row"] = self._rows.numbers[good[images.row]]
        columns["bucket"] = bucket_labels(self._expansion, grid)[images.row, images.cell]
        columns |= self._seeds(prompts["seed"], images, columns["prompt_id"])
        columns |= self._tokens(grid, images, counter)
        columns |= self._without_effect(grid, images)
        for name, values in self._rows.extras.items():
            columns[name] = values.take(pa.array(good[images.row]))
        return self._finished(columns, len(images))

    def _swept(self, images: Positions) -> dict[str, Any]:
        """What cells say of the loop."""
        said = [dict(cell.columns) for cell in self._expansion.cells.values()]
        types = {field.name: field.type for field in self._expansion.swept}
        values = {name: pa.array([columns[name] for columns in said], types[name]) for name in said[0]}
        return {name: array.take(pa.array(images.cell)) for name, array in values.items()}

    def _seeds(self, own: pa.Array, images: Positions, prompt_ids: pa.Array) -> dict[str, Any]:
        sampling = self._expansion.sampling
        has_own = np.asarray(own.is_valid())[images.row]
        seeds = np.asarray(own.fill_null(0))[images.row] + images.sample
        if sampling.seeds is not None:
            given = np.asarray(sampling.seeds, np.int64)
            seeds = np.where(has_own, seeds, given[np.minimum(images.sample, len(given) - 1)])
            return {"seed": seeds, "seed_derived": np.zeros(len(images), np.bool_)}
        if not has_own.all():
            seeds = np.where(has_own, seeds, derived_seeds(self._expansion, prompt_ids, images.sample, ~has_own))
        return {"seed": seeds, "seed_derived": ~has_own}

    def _tokens(self, grid: Grid, images: Positions, counter: TokenCounter) -> dict[str, Any]:
        """Counted once a prompt row, and once more for each way in which cells change what an encoder reads."""
        read = Distinct.of(grid.prompt, grid.negative_prompt, grid.max_sequence_length)
        texts = Texts.of(grid.at(read.row, read.cell))
        counts = counter.count(texts, grid.max_sequence_length[read.row, read.cell])
        counts = counts.take(pa.array(read.kind[images.row, images.cell]))
        found = {name: counts[name].combine_chunks() for name in counts.column_names}
        guided = (grid.guidance_scale[images.row, images.cell] > 1) | self._guided_again[images.cell]
        found["negative_overflow"] = pc.and_(found["negative_overflow"], pa.array(guided))  # nobody reads it otherwise
        return found

    def _without_effect(self, grid: Grid, images: Positions) -> dict[str, Any]:
        """What rows ask for and guidance that is off does not do."""
        off = grid.guidance_scale <= 1
        fields = images.row, images.cell
        stop = np.array([cell.sampling.negative_prompt_stop for cell in self._expansion.cells.values()])
        never = (stop * grid.num_inference_steps).astype(np.int64) == 0  # zeros take its place in all steps
        unread = (never | (off & ~self._guided_again)) & grid.has_negative()
        return {"idle_skip_layers": (off & (grid.asked_to_skip > 0))[fields], "idle_negative": unread[fields]}

    def _finished(self, columns: dict[str, Any], size: int) -> pa.Table:
        """The table with its names, and with the rows set aside that the job does not want to see cut."""
        codes, messages = _overflow(columns, self._expansion.on_overflow)
        columns |= {"skip_code": codes, "skip_message": messages}
        places = np.full(size, None, object)
        for at in np.flatnonzero(np.asarray(codes.is_valid())).tolist():
            places[at] = place(self._source, columns["prompt_row"][at])
        columns["where"] = places
        return self._named(columns, size)

    def _named(self, columns: dict[str, Any], size: int) -> pa.Table:
        source = {"source_file": self._source.name, "source_row": columns["prompt_row"]}
        for field in self._expansion.sourced:
            columns[field.name] = source[field.name]
        table = _typed(columns, size, self._expansion.passed)
        return replaced(table, "image_id", image_ids(table, self._expansion))

    def _bad(self, bad: Ints) -> pa.Table:
        """One row for each bad prompt row: who it is and what is wrong, and no settings."""
        complaints, numbers, positions = self._rows.complaints, self._rows.numbers[bad], bad.tolist()
        columns: dict[str, Any] = {
            "prompt_id": self._ids[bad],
            "sample_index": np.zeros(len(bad), np.int32),
            "cell": ["default"] * len(bad),
            "prompt_row": numbers,
            "skip_code": [complaints.code(row) for row in positions],
            "skip_message": [redact(complaints.message(row)) for row in positions],
            "where": [place(self._source, number) for number in numbers.tolist()],
            "seed_derived": np.zeros(len(bad), np.bool_),
        }
        for name in (*TEXTS, "adapter"):
            columns[name] = self._rows.ours[name].take(pa.array(bad))
        columns["benchmark_prompt"] = columns["prompt"]
        for name, values in self._rows.extras.items():
            columns[name] = values.take(pa.array(bad))
        return self._named(columns, len(bad))


def _text_bytes(rows: Rows, worded: Mapping[str | None, pa.Array]) -> Ints:
    """Bytes of text of each prompt row; what encoders cut off of the prompts is kept once more for each."""
    made = [np.asarray(pc.binary_length(values).fill_null(0), np.int64) for text, values in worded.items() if text]
    sizes = 4 * np.max(made, axis=0) if made else np.zeros(len(rows), np.int64)
    for name, values in [*rows.ours.items(), *rows.extras.items()]:
        if pa.types.is_string(values.type):
            times = 4 if name.startswith("prompt") else 1
            sizes += times * np.asarray(pc.binary_length(values).fill_null(0), np.int64)
    return sizes


def _overflow(columns: dict[str, Any], policy: OnOverflow) -> tuple[pa.Array, pa.Array]:
    """Codes and messages of image rows that the job does not want to see cut; the stricter policy names the code."""
    size = len(columns["overflow_t5"])
    codes, messages = np.full(size, None, object), np.full(size, None, object)
    clip_l, clip_g, t5 = (columns[f"overflow_{name}"].fill_null(False) for name in ("clip_l", "clip_g", "t5"))
    clip = np.asarray(pc.or_(clip_l, clip_g))
    checks = [(policy.clip, OVERFLOW_CLIP, clip), (policy.t5, OVERFLOW_T5, np.asarray(t5))]
    for wish, code, rows in sorted(checks, key=lambda check: check[0] == "refuse"):
        if wish == "keep":
            continue
        encoder, limit = ("CLIP", "77") if code == OVERFLOW_CLIP else ("T5", "max_sequence_length")
        write = f"shorten it, or write errors.on_overflow: {{{encoder.lower()}: keep}}"
        codes[rows] = code
        messages[rows] = f"column prompt has more tokens than {encoder} reads ({limit}): {write}"
    return pa.array(codes, pa.string()), pa.array(messages, pa.string())


def _typed(columns: dict[str, Any], size: int, extras: Sequence[pa.Field]) -> pa.Table:
    """A table of the expanded schema; what is not given is null."""
    wanted = expanded_schema(extras)
    arrays = []
    for field in wanted:
        values = columns.get(field.name)
        if values is None:
            values = pa.nulls(size, field.type) if field.nullable else pa.repeat(pa.scalar("", field.type), size)
        elif isinstance(values, str):
            values = pa.repeat(values, size)
        elif isinstance(values, pa.Array):
            values = values.cast(field.type)
        else:
            values = pa.array(values, field.type)
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=wanted)
