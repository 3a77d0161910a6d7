"""All rows of some runs as one table, by the numbers of its rows. Reads the columns that are wanted, and keeps some.

Columns are those of metadata/, with the score of each scorer and, of several runs, the run. Knows no expression and no
page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.evaluate.scores import read_scores, scorer_names
from batchgen.evaluate.selection import column_of
from batchgen.run.directory import Run
from batchgen.run.layout import SCORES
from batchgen.run.reading import in_order
from batchgen.view.held import Held
from batchgen.view.pieces import REPEATED, Piece, pieces_of, state_of

Numbers = npt.NDArray[np.int64]
MOST_BYTES = 600_000_000  # of columns that are kept
READERS = 8  # on an object store, reading is mostly waiting
TEXT = pa.string()
DICTIONARY = pa.dictionary(pa.int32(), TEXT)


class Table:
    """runs: with their labels. Reads footers and no rows; scores when they are asked for."""

    def __init__(self, runs: Sequence[tuple[str, Run]]) -> None:
        self.runs = list(runs)
        self.state = state(runs)
        # In addresses of pictures, which browsers keep: other runs at the same address have others.
        self.keys = [_digest(run.store.url, *(plan.plan for plan in run.plans)) for _, run in self.runs]
        pieces = [pieces_of(run) for _, run in self.runs]
        self._pieces: list[tuple[int, Piece]] = [(at, piece) for at, found in enumerate(pieces) for piece in found]
        self._starts = np.cumsum([0, *(piece.rows for _, piece in self._pieces)])
        self.types = _types(self._pieces)
        self._made: dict[str, Callable[[int], pa.Array]] = {}
        if len(self.runs) > 1:
            self.run_column = _free("run", self.types)
            self._make(self.run_column, TEXT, self._label)
        for scorer in sorted({name for _, run in self.runs for name in scorer_names(run.store)}):
            self._make(column_of(scorer), pa.float64(), partial(self._score, scorer))
        self._columns = Held[pa.Array](MOST_BYTES, lambda array: array.nbytes)
        self._scores = Held[pa.Table | None](MOST_BYTES // 4, lambda table: table.nbytes if table else 0)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def column(self, name: str) -> pa.ChunkedArray:
        """All of a column."""
        chunks = in_order(range(len(self._pieces)), lambda at: self._chunk(at, name), READERS)
        return pa.chunked_array(list(chunks), self.types[name])

    def take(self, numbers: Numbers, names: Sequence[str]) -> pa.Table:
        """Some columns of these rows, in this order."""
        if not len(numbers):
            return pa.table({name: pa.array([], self.types[name]) for name in names})
        of = np.searchsorted(self._starts, numbers, side="right") - 1
        places = [np.flatnonzero(of == at) for at in np.unique(of)]

        def read(here: Numbers) -> pa.Table:
            at = int(of[here[0]])
            inside = pa.array(numbers[here] - self._starts[at])
            return pa.table({name: chunk.take(inside) for name, chunk in self._chunks(at, names).items()})

        found = pa.concat_tables(in_order(places, read, READERS))
        return found.take(pa.array(np.argsort(np.concatenate(places))))

    def row(self, number: int) -> dict[str, Any]:
        """All of one row, as a run's own table has it."""
        at = int(np.searchsorted(self._starts, number, side="right")) - 1
        inside = number - int(self._starts[at])
        found: dict[str, Any] = self._pieces[at][1].read().slice(inside, 1).to_pylist()[0]
        return found | {name: make(at)[inside].as_py() for name, make in self._made.items()}

    def run_of(self, number: int) -> int:
        """The place of its run."""
        return self._pieces[int(np.searchsorted(self._starts, number, side="right")) - 1][0]

    def span(self, run: int) -> tuple[int, int]:
        """The numbers of the first row of a run, and of the one behind its last."""
        of = [at for at, (place, _) in enumerate(self._pieces) if place == run]
        return (int(self._starts[of[0]]), int(self._starts[of[-1] + 1])) if of else (0, 0)

    def _make(self, name: str, kind: pa.DataType, make: Callable[[int], pa.Array]) -> None:
        self.types[name] = kind
        self._made[name] = make

    def _chunks(self, at: int, names: Sequence[str]) -> dict[str, pa.Array]:
        """Some columns of a piece; those that are not here yet are read together."""
        piece = self._pieces[at][1]
        there = set(piece.schema.names) - self._made.keys()
        if missing := [name for name in names if name in there and (at, name) not in self._columns]:
            read = piece.read(missing)
            for name in missing:
                self._columns.get((at, name), partial(_as, read[name], self.types[name]))
        return {name: self._chunk(at, name) for name in names}

    def _chunk(self, at: int, name: str) -> pa.Array:
        return self._columns.get((at, name), lambda: self._read(at, name))

    def _read(self, at: int, name: str) -> pa.Array:
        if name in self._made:
            return self._made[name](at)
        piece, kind = self._pieces[at][1], self.types[name]
        return _as(piece.read([name])[name], kind) if name in piece.schema.names else pa.nulls(piece.rows, kind)

    def _label(self, at: int) -> pa.Array:
        place, piece = self._pieces[at]
        return pa.repeat(pa.scalar(self.runs[place][0]), piece.rows)

    def _score(self, scorer: str, at: int) -> pa.Array:
        place, piece = self._pieces[at]
        scores = self._scores.get((place, scorer), lambda: self._scores_of(place, scorer))
        if scores is None:
            return pa.nulls(piece.rows, pa.float64())
        where = pc.index_in(self._chunk(at, "image_id"), scores["image_id"].combine_chunks())
        return scores["score"].combine_chunks().take(where)

    def _scores_of(self, place: int, scorer: str) -> pa.Table | None:
        store = self.runs[place][1].store
        if scorer not in scorer_names(store):
            return None
        frame = read_scores(store, [scorer])[scorer].table[["image_id", "score"]]
        return pa.Table.from_pandas(frame, preserve_index=False)


def state(runs: Sequence[tuple[str, Run]]) -> list[str]:
    """Another one as soon as the runs have other rows or scores."""
    scores = [repr([(entry.path, entry.size) for entry in run.store.list(SCORES)]) for _, run in runs]
    return [*(state_of(run) for _, run in runs), *scores]


def _types(pieces: Sequence[tuple[int, Piece]]) -> dict[str, pa.DataType]:
    """Of all columns of all pieces, the first that have one first; text, where two of them differ."""
    types: dict[str, pa.DataType] = {}
    for _, piece in pieces:
        for field in piece.schema:
            kind = DICTIONARY if field.name in REPEATED else field.type
            known = types.get(field.name, pa.null())
            if pa.types.is_null(kind) or kind == known:
                kind = known
            elif not pa.types.is_null(known):
                kind = _wider(known, kind)
            types[field.name] = kind
    return types


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    try:
        schemas = [pa.schema([("it", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return TEXT


def _as(chunks: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    column = chunks.combine_chunks()
    if column.type == kind:
        return column
    if kind == DICTIONARY:
        return column.cast(TEXT).dictionary_encode()
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # a list, where another run has a number
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], kind)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _free(name: str, taken: dict[str, pa.DataType]) -> str:
    while name in taken:
        name += "_"
    return name
