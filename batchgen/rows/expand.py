"""One prompt row → its image rows, or one row that says precisely what is wrong with it.

Knows no Ray and no torch. Works on whole sources with Arrow and numpy; only names are made one by one. Which samples
and cells a row has, in which order (cell by cell, then sample by sample), and what each holds is settled here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import Refused
from batchgen.job import Errors, OnOverflow
from batchgen.manifest.checks import check_rows, samples_of
from batchgen.manifest.columns import TEXTS
from batchgen.manifest.formats import Source, place
from batchgen.manifest.values import Rows, read_rows
from batchgen.rows.buckets import bucket_labels, has_negative
from batchgen.rows.expansion import Expansion
from batchgen.rows.naming import derived_seeds, image_ids, prompt_ids, replaced
from batchgen.rows.sizes import Sizes, size_cell
from batchgen.rows.taken import check_sides, check_taken
from batchgen.rows.tokens import TokenCounter
from batchgen.schema import expanded_schema

PART_ROWS = 20_000  # image rows of one table
PART_BYTES = 256 * 2**20  # of their texts
MAX_ROW_BYTES = 2**30  # of one prompt row's image rows: an Arrow string column ends at 2 GiB
OVERFLOW_CLIP, OVERFLOW_T5 = "OVERFLOW_CLIP", "OVERFLOW_T5"
DAMAGED = "DAMAGED"  # a piece that cannot be read: how many rows are lost nobody knows, so it is never skipped

Ints = npt.NDArray[np.int64]


def refused(code: str, errors: Errors) -> bool:
    """Whether a row with this code stops the job instead of being skipped."""
    if code == DAMAGED:
        return True
    if code in (OVERFLOW_CLIP, OVERFLOW_T5):
        return (errors.on_overflow.clip if code == OVERFLOW_CLIP else errors.on_overflow.t5) == "refuse"
    return errors.bad_rows == "refuse"


def expand(source: Source, settings: Expansion, counter: TokenCounter) -> pa.Table:
    """All image rows of a source, in manifest order. For sources of unknown size rather expand_in_parts()."""
    parts = [*expand_in_parts(source, settings, counter)]
    return pa.concat_tables(parts) if parts else expanded_schema(settings.extras).empty_table()


def expand_in_parts(source: Source, settings: Expansion, counter: TokenCounter) -> Iterator[pa.Table]:
    """The same, as tables of bounded size; a prompt row is never divided.

    Raises Refused where the file is damaged or has changed, Infrastructure where it cannot be reached.
    """
    rows = read_rows(source, settings.columns, settings.extras)
    if settings.pipeline is not None:
        check_taken(rows, settings.pipeline)
    check_rows(rows, settings.sampling, source.own_ids, [*settings.adapters])
    sizes = {
        cell: size_cell(rows, settings.sampling, values, settings.limits, cell)
        for cell, values in settings.cells.items()
    }
    if settings.pipeline is not None:
        check_sides(rows, sizes.values(), settings.pipeline)
    prompts = _Prompts(rows, sizes, settings, source)
    for start, stop in prompts.parts():
        yield prompts.images(start, stop, counter)


def expand_or_complain(source: Source, settings: Expansion, counter: TokenCounter) -> Iterator[pa.Table]:
    """The same; a piece that cannot be read becomes a row that says so, and takes no other piece's complaints along."""
    try:
        yield from expand_in_parts(source, settings, counter)
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
        yield _typed(columns, len(problems), settings.extras)


class _Prompts:
    """The checked prompt rows of one source on their way to image rows."""

    def __init__(self, rows: Rows, sizes: dict[str, Sizes], settings: Expansion, source: Source) -> None:
        self._rows, self._sizes, self._settings, self._source = rows, sizes, settings, source
        self._samples = samples_of(rows, settings.sampling)
        self._bytes = _text_bytes(rows)
        self._check_bulk()
        self._good = np.ones(len(rows), np.bool_)
        self._good[list(rows.complaints)] = False
        self._ids = prompt_ids(rows)

    def _check_bulk(self) -> None:
        """One prompt row is one table, and what its images repeat must fit it."""
        bulk = self._samples * len(self._settings.cells) * self._bytes
        for row in np.flatnonzero(bulk > MAX_ROW_BYTES).tolist():
            text = f"asks for {self._samples[row]:,} images of a row with {self._bytes[row]:,} bytes of text: divide it"
            self._rows.complaints.about(row, "num_images_per_prompt", "BAD_NUM_IMAGES", text)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Ranges of prompt rows whose image rows make one table each."""
        images = np.where(self._good, self._samples * len(self._settings.cells), 1)
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
        """good: positions of prompt rows. Arrays of shape (prompt rows, cells) are indexed once per image row."""
        ours = {name: values.take(pa.array(good)) for name, values in self._rows.ours.items()}
        cells = self._cell_values(ours, good)
        row, cell, sample = _positions(self._samples[good], len(self._settings.cells))
        columns: dict[str, Any] = {name: values[row, cell] for name, values in cells.items()}
        ours |= self._own_negatives(ours)
        for name in ("prompt", "prompt_2", "prompt_3", "negative_prompt_2", "negative_prompt_3"):
            columns[name] = _or_null(name, ours[name]).take(pa.array(row))
        columns["adapter"] = _or_null("adapter", pa.array(self._adapters).take(pa.array(columns.pop("adapter"))))
        texts, which = self._negatives(ours["negative_prompt"], len(good))
        columns["negative_prompt"] = texts.take(pa.array(which[row, cell]))
        columns["prompt_id"] = pa.array(self._ids[good]).take(pa.array(row))
        columns["sample_index"] = sample
        columns["cell"] = pa.array([*self._settings.cells]).take(pa.array(cell))
        columns["prompt_row"] = good[row]
        columns |= self._seeds(ours["seed"], row, sample, columns["prompt_id"])
        columns |= self._tokens(ours, texts, which, cells, (row, cell), counter)
        negative = has_negative(texts, which, ours)
        columns["bucket"] = bucket_labels(self._settings, cells, negative, self._adapters)[row, cell]
        for name, values in self._rows.extras.items():
            columns[name] = values.take(pa.array(good[row]))
        return self._finished(columns, len(row))

    def _cell_values(self, ours: dict[str, pa.Array], good: Ints) -> dict[str, Any]:
        """Numbers of every prompt row in every cell: swept, else the row's own, else the job's."""
        sampling, cells = self._settings.sampling, self._settings.cells
        values: dict[str, Any] = {}
        for name in ("num_inference_steps", "guidance_scale", "skip_layer_guidance_scale", "max_sequence_length"):
            own = np.asarray(ours[name].fill_null(getattr(sampling, name)))
            swept = [cell.get(name) for cell in cells.values()]
            values[name] = np.stack([own if v is None else np.full(len(good), v, own.dtype) for v in swept], axis=1)
        own = np.asarray(pc.index_in(ours["adapter"].fill_null(sampling.adapter or ""), pa.array(self._adapters)))
        swept = [cell.get("adapter") for cell in cells.values()]
        values["adapter"] = np.stack(
            [own if alias is None else np.full(len(good), self._adapters.index(alias)) for alias in swept], axis=1
        ).astype(np.int64)
        for name in ("height", "width", "requested_height", "requested_width"):
            values[name] = np.stack([getattr(sizes, name)[good] for sizes in self._sizes.values()], axis=1)
        # Skip-layer guidance exists only under guidance: pipeline_stable_diffusion_3.py, diffusers 0.42.1
        values["skip_layer_guidance_scale"] = np.where(
            values["guidance_scale"] > 1, values["skip_layer_guidance_scale"], 0.0
        )
        return values

    @property
    def _adapters(self) -> list[str]:
        """Aliases by the number that they have in `_cell_values`; 0 is none."""
        return ["", *self._settings.adapters]

    def _own_negatives(self, ours: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """Negative prompts of the second and third encoder: the row's own, or the job's."""
        names = ("negative_prompt_2", "negative_prompt_3")
        return {name: ours[name].fill_null(getattr(self._settings.sampling, name) or "") for name in names}

    def _negatives(self, own: pa.Array, rows: int) -> tuple[pa.Array, Ints]:
        """Negative prompts, and for each prompt row and cell the position of its own among them."""
        swept = [cell.get("negative_prompt") for cell in self._settings.cells.values()]
        texts = pa.concat_arrays([own.fill_null(self._settings.sampling.negative_prompt), pa.array(swept, pa.string())])
        which = [np.arange(rows) if text is None else np.full(rows, rows + i) for i, text in enumerate(swept)]
        return texts, np.stack(which, axis=1)

    def _seeds(self, own: pa.Array, row: Ints, sample: Ints, prompt_ids: pa.Array) -> dict[str, Any]:
        sampling = self._settings.sampling
        has_own = np.asarray(own.is_valid())[row]
        seeds = np.asarray(own.fill_null(0))[row] + sample
        if sampling.seeds is not None:
            given = np.asarray(sampling.seeds, np.int64)
            seeds = np.where(has_own, seeds, given[np.minimum(sample, len(given) - 1)])
            return {"seed": seeds, "seed_derived": np.zeros(len(row), np.bool_)}
        if not has_own.all():
            seeds = np.where(has_own, seeds, derived_seeds(sampling.seed, prompt_ids, sample, ~has_own))
        return {"seed": seeds, "seed_derived": ~has_own}

    def _tokens(
        self,
        ours: dict[str, pa.Array],
        negatives: pa.Array,
        which: Ints,
        cells: dict[str, Any],
        images: tuple[Ints, Ints],
        counter: TokenCounter,
    ) -> dict[str, Any]:
        """Counted once per prompt row and once more for each way in which cells change what an encoder reads."""
        variants = [
            (cell.get("negative_prompt"), cell.get("max_sequence_length")) for cell in self._settings.cells.values()
        ]
        distinct = list(dict.fromkeys(variants))
        first = [variants.index(variant) for variant in distinct]
        names = ("prompt", "prompt_2", "prompt_3", "negative_prompt_2", "negative_prompt_3")
        prompts, prompts_2, prompts_3, *negatives_2_3 = (ours[name].to_pylist() * len(first) for name in names)
        limits = cells["max_sequence_length"][:, first].T.ravel()
        texts = negatives.take(pa.array(which[:, first].T.ravel())).to_pylist()
        counted = counter.count(prompts, prompts_2, prompts_3, texts, limits, *negatives_2_3)
        number = np.array([distinct.index(variant) for variant in variants])
        row, cell = images
        counted = counted.take(pa.array(number[cell] * len(which) + row))
        found = {name: counted[name].combine_chunks() for name in counted.column_names}
        guided = pa.array((cells["guidance_scale"][row, cell] > 1) | self._settings.guided_again)
        found["negative_overflow"] = pc.and_(found["negative_overflow"], guided)  # nobody reads it otherwise
        return found

    def _finished(self, columns: dict[str, Any], size: int) -> pa.Table:
        """The table with its names, and with the rows set aside that the job does not want to see cut."""
        for name in ("requested_height", "requested_width"):
            columns[name] = pa.array(columns[name], mask=columns[name] == 0)
        codes, messages = _overflow(columns, self._settings.on_overflow)
        columns |= {"skip_code": codes, "skip_message": messages}
        places = np.full(size, None, object)
        for at in np.flatnonzero(np.asarray(codes.is_valid())).tolist():
            places[at] = place(self._source, self._rows.numbers[int(columns["prompt_row"][at])])
        columns["where"] = places
        table = _typed(columns, size, self._settings.extras)
        return replaced(table, "image_id", image_ids(table, self._settings))

    def _bad(self, bad: Ints) -> pa.Table:
        """One row for each bad prompt row: who it is and what is wrong, and no settings."""
        complaints, positions = self._rows.complaints, bad.tolist()
        columns: dict[str, Any] = {
            "prompt_id": self._ids[bad],
            "sample_index": np.zeros(len(bad), np.int32),
            "cell": ["default"] * len(bad),
            "prompt_row": bad,
            "skip_code": [complaints.code(row) for row in positions],
            "skip_message": [complaints.message(row) for row in positions],
            "where": [place(self._source, self._rows.numbers[row]) for row in positions],
            "seed_derived": np.zeros(len(bad), np.bool_),
        }
        for name in (*TEXTS, "adapter"):
            columns[name] = self._rows.ours[name].take(pa.array(bad))
        for name, values in self._rows.extras.items():
            columns[name] = values.take(pa.array(bad))
        table = _typed(columns, len(bad), self._settings.extras)
        return replaced(table, "image_id", image_ids(table, self._settings))


def _text_bytes(rows: Rows) -> Ints:
    """Bytes of text of each prompt row; what encoders cut off of the prompts is kept once more for each."""
    sizes = np.zeros(len(rows), np.int64)
    for name, values in [*rows.ours.items(), *rows.extras.items()]:
        if pa.types.is_string(values.type):
            times = 4 if name.startswith("prompt") else 1
            sizes += times * np.asarray(pc.binary_length(values).fill_null(0), np.int64)
    return sizes


def _or_null(name: str, texts: pa.Array) -> pa.Array:
    """An empty text but the prompt is none: the pipeline reads `prompt_2 or prompt`."""
    return texts if name == "prompt" else pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _positions(samples: Ints, cells: int) -> tuple[Ints, Ints, Ints]:
    """Prompt row, cell and sample of every image row: row by row, cell by cell, sample by sample."""
    counts = samples * cells
    row = np.repeat(np.arange(len(samples)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    cell, sample = np.divmod(within, samples[row])
    return row, cell, sample


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
        elif isinstance(values, pa.Array):
            values = values.cast(field.type)
        else:
            values = pa.array(values, field.type)
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=wanted)
