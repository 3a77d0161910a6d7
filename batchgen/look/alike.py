"""Pictures of a run that are alike, or flat: how many near-identical pairs there are, by cell.

Reads columns of the metadata and no picture; holds about 350 bytes an image. Knows hashes; which of two pictures to
keep `select` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen import schema
from batchgen.look.results import Results
from batchgen.run.directory import Run
from batchgen.run.hashes import BITS, NEAR, Ints, Values, near_pairs, numbers
from batchgen.words import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Of one cell. within, across: pairs of its pictures that differ in at most NEAR of 64 bits of their perceptual
    hashes, of one prompt and of two. flat: pictures of one colour, which are in no pair. complete: these are all pairs.
    """

    cell: str
    images: int
    flat: int
    within: int
    across: int
    complete: bool = True

    @property
    def line(self) -> str:
        """For people."""
        least = "" if self.complete else "at least "
        pairs = f"{least}{self.within} near-identical pairs within a prompt, {least}{self.across} across prompts"
        return f"{pairs}, {self.flat} flat, of {self.images} pictures"


def lines(found: list[Alike]) -> Iterator[str]:
    """For people: what near-identical means, and each cell; nothing where no picture is alike or flat."""
    if not any(one.within or one.across or one.flat for one in found):
        return
    yield f"near-identical: at most {NEAR} of {BITS} bits of perceptual hashes differ; in one cell, flat ones left out"
    for one in found:
        yield f"{'' if len(found) == 1 else f'  {visible(one.cell)}: '}{one.line}"


def alike_of(run: Run) -> list[Alike]:
    """In the order of the cells; one that has no picture yet is left out."""
    cells, prompts, hashes, flat = _columns(run)
    names, cell = _codes(cells)
    prompt = _codes(prompts)[1]
    images = np.bincount(cell, minlength=len(names))
    flats = np.bincount(cell[flat], minlength=len(names))
    values, cell, prompt = hashes[~flat], cell[~flat], prompt[~flat]
    everywhere, all_of_them = near_pairs(values, cell, np.arange(len(names)), len(names))
    keys, group = np.unique(prompt * max(len(names), 1) + cell, return_inverse=True)
    within, all_within = near_pairs(values, group, keys % max(len(names), 1), len(names))
    complete = all_of_them and all_within
    found = {
        name: Alike(
            cell=name, images=int(images[at]), flat=int(flats[at]), within=int(within[at]),
            across=max(int(everywhere[at] - within[at]), 0), complete=complete,
        )
        for at, name in enumerate(names)
    }  # fmt: skip
    return [found[name] for name in dict.fromkeys([*run.cells, *names]) if name in found]


def _columns(run: Run) -> tuple[pa.ChunkedArray, pa.ChunkedArray, Values, npt.NDArray[np.bool_]]:
    """cell, prompt_id, hash and whether it is flat, of every picture."""
    names = ["cell", "prompt_id", "suspect"]
    tables, hashes = [schema.metadata_schema().empty_table().select(names)], [np.empty(0, np.uint64)]
    for table in Results(run.store.url).tables(["status", "cell", "prompt_id", "phash", "suspect"]):
        table = table.filter(pc.and_(pc.equal(table["status"], "ok"), pc.is_valid(table["phash"])))
        hashes.append(numbers(table["phash"].to_pylist()))
        tables.append(table.select(names))
    joined = pa.concat_tables(tables)
    return joined["cell"], joined["prompt_id"], np.concatenate(hashes), np.asarray(pc.is_valid(joined["suspect"]), bool)


def _codes(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """Its different values, and of each row the number of its own."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
