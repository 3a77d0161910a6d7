"""What prompt rows ask for in every cell of a sweep, as matrices, and which field of them each image row has.

A field is one prompt row in one cell. Its value is the cell's where that is swept, else the row's own, else the job's.
Knows no files, names, seeds or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.columns import FLOATS, INTEGERS, SWEPT
from batchgen.job import Sampling
from batchgen.manifest.checks import Ints
from batchgen.rows.expansion import Expansion
from batchgen.rows.sizes import Floats, Sizes

Matrix = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

SIZES = ("height", "width", "requested_height", "requested_width")
NUMBERS = tuple(name for name in SWEPT if name in (*INTEGERS, *FLOATS) and name not in SIZES)


@dataclass(frozen=True, slots=True)
class Positions:
    """Prompt row, cell and sample of each image row."""

    row: Ints
    cell: Ints
    sample: Ints

    @classmethod
    def of(cls, samples: Ints, cells: int) -> Self:
        """Row by row, cell by cell, sample by sample. samples: how many images each prompt row has in each cell."""
        counts = samples * cells
        row = np.repeat(np.arange(len(samples)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        cell, sample = np.divmod(within, samples[row])
        return cls(row, cell, sample)

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One matrix (prompt rows × cells) for each setting that a cell may say; of other texts one value a prompt row.

    requested_*: 0 where a side is the one that was asked for. adapter: positions among aliases, where 0 is none.
    prompt: positions among wordings. negative_prompt: positions among negatives. asked_to_skip:
    skip_layer_guidance_scale, also where guidance is off.
    """

    height: Ints
    width: Ints
    requested_height: Ints
    requested_width: Ints
    num_inference_steps: Ints
    guidance_scale: Floats
    skip_layer_guidance_scale: Floats
    asked_to_skip: Floats
    max_sequence_length: Ints
    adapter: Ints
    aliases: pa.Array
    prompt: Ints
    wordings: pa.Array
    negative_prompt: Ints
    negatives: pa.Array
    texts: Mapping[str, pa.Array]

    @classmethod
    def of(
        cls,
        expansion: Expansion,
        prompts: Mapping[str, pa.Array],
        sizes: Sequence[Sizes],
        worded: Mapping[str | None, pa.Array],
    ) -> Self:
        """prompts: the manifest's columns, only of rows without a complaint. sizes: of the same rows, cell by cell.

        worded: the prompts of the same rows for each text of sweep.prompt, and for None.
        """
        sampling, cells = expansion.sampling, [cell.values for cell in expansion.cells.values()]
        own = {name: np.asarray(prompts[name].fill_null(getattr(sampling, name))) for name in NUMBERS}
        numbers = {name: swept(own[name], [cell.get(name) for cell in cells]) for name in NUMBERS}
        # Skip-layer guidance exists only under guidance: pipeline_stable_diffusion_3.py, diffusers 0.42.1
        skipping = np.where(numbers["guidance_scale"] > 1, numbers["skip_layer_guidance_scale"], 0.0)
        aliases = pa.array(["", *expansion.adapters])
        adapter = np.asarray(pc.index_in(prompts["adapter"].fill_null(sampling.adapter or ""), aliases), np.int64)
        named = [None if (alias := cell.get("adapter")) is None else aliases.index(alias).as_py() for cell in cells]
        each = np.arange(len(own["guidance_scale"]))
        at = [[*worded].index(cell.get("prompt")) for cell in cells]
        negative_prompt, negatives = _negatives(prompts["negative_prompt"].fill_null(sampling.negative_prompt), cells)
        return cls(
            **{name: np.stack([getattr(size, name) for size in sizes], axis=1) for name in SIZES},
            **numbers | {"skip_layer_guidance_scale": skipping},
            asked_to_skip=numbers["skip_layer_guidance_scale"],
            adapter=swept(adapter, named),
            aliases=aliases,
            prompt=np.stack([each + len(each) * position for position in at], axis=1),
            wordings=pa.concat_arrays([*worded.values()]),
            negative_prompt=negative_prompt,
            negatives=negatives,
            texts=_texts(prompts, sampling),
        )

    def at(self, row: Ints, cell: Ints) -> dict[str, pa.Array]:
        """Columns of a plan: all texts and settings of these fields."""
        found = {name: values.take(pa.array(row)) for name, values in self.texts.items()}
        found["prompt"] = self.wordings.take(pa.array(self.prompt[row, cell]))
        found["negative_prompt"] = self.negatives.take(pa.array(self.negative_prompt[row, cell]))
        found["adapter"] = _none_if_empty(self.aliases.take(pa.array(self.adapter[row, cell])))
        for name in (*SIZES, *NUMBERS):
            values = getattr(self, name)[row, cell]
            found[name] = pa.array(values, mask=values == 0 if name.startswith("requested") else None)
        return found

    def has_negative(self) -> Flags:
        """A matrix: whether any encoder has a negative prompt."""
        first: Flags = np.asarray(pc.not_equal(self.negatives, ""))[self.negative_prompt]
        second, third = (np.asarray(self.texts[name].is_valid()) for name in ("negative_prompt_2", "negative_prompt_3"))
        either: Flags = first | (second | third)[:, None]
        return either


@dataclass(frozen=True, slots=True)
class Distinct:
    """The first field of each kind. row, cell: where it is. kind: a matrix, of every field the number of its kind."""

    row: Ints
    cell: Ints
    kind: Ints

    @classmethod
    def of(cls, *matrices: Matrix) -> Self:
        """Fields are of one kind if they are equal in all matrices."""
        keys = np.stack(matrices, axis=-1)
        _, first, kind = np.unique(keys.reshape(-1, len(matrices)), axis=0, return_index=True, return_inverse=True)
        row, cell = np.divmod(first, keys.shape[1])
        return cls(row, cell, kind.reshape(keys.shape[:2]))


def swept(own: Matrix, said: Sequence[Any]) -> Matrix:
    """One column a cell: what the cell says, for all rows, or each row's own where it says None."""
    return np.stack([own if value is None else np.full_like(own, value) for value in said], axis=1)


def _negatives(own: pa.Array, cells: Sequence[Mapping[str, Any]]) -> tuple[Ints, pa.Array]:
    """The matrix of positions among all negative prompts, which are the rows' and those of cells, and these."""
    texts = [cell.get("negative_prompt") for cell in cells]
    distinct = [*dict.fromkeys(text for text in texts if text is not None)]
    positions = [None if text is None else len(own) + distinct.index(text) for text in texts]
    return swept(np.arange(len(own)), positions), pa.concat_arrays([own, pa.array(distinct, pa.string())])


def _texts(prompts: Mapping[str, pa.Array], sampling: Sampling) -> dict[str, pa.Array]:
    """Texts that no cell changes. An empty one is none: the pipeline reads `prompt_2 or prompt`."""
    texts = {name: prompts[name] for name in ("prompt_2", "prompt_3")}
    for name in ("negative_prompt_2", "negative_prompt_3"):
        texts[name] = prompts[name].fill_null(getattr(sampling, name) or "")
    return {name: _none_if_empty(values) for name, values in texts.items()}


def _none_if_empty(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
