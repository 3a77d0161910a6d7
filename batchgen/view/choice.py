"""The numbers of the rows that are asked for, in the order that is asked for. Kept, so that scrolling asks no database.

Knows a table and its marks; no page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import Refused
from batchgen.evaluate.expression import matching
from batchgen.view.asked import Asked
from batchgen.view.held import Held
from batchgen.view.marks import Marks, marked
from batchgen.view.near import near
from batchgen.view.table import Numbers, Table

MOST_BYTES = 200_000_000  # of numbers: 8 for each row
MOST_GROUPS = 2_000
# What may mean columns that it does not name.
ALL = re.compile(r'columns\s*\(|select\s+(distinct\s+)?\*|[(,.]\s*\*|\bimages\b(?!\s*\.\s*["\w])', re.IGNORECASE)
COUNT = re.compile(r"count\s*\(\s*\*\s*\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Group:
    """value: of its rows in the column, null for none."""

    value: Any
    count: int


class Choices:
    """Of one table."""

    def __init__(self, table: Table, marks: Marks) -> None:
        self._table, self._marks = table, marks
        self._kept = Held[Numbers](MOST_BYTES, lambda numbers: numbers.nbytes)

    def numbers(self, asked: Asked) -> Numbers:
        """Raises Refused for an expression that cannot be used."""
        if asked.marked:
            return self._find(asked)  # marks change
        return self._kept.get(asked, lambda: self._find(asked))

    def groups(self, asked: Asked) -> list[Group]:
        """In the order in which they come. Raises Refused where they are too many to be groups."""
        column = _sortable(self._table.column(asked.group)).take(pa.array(self.numbers(asked)))
        encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
        if len(encoded.dictionary) > MOST_GROUPS:
            raise Refused(
                f"{asked.group} has {len(encoded.dictionary)} values, and at most {MOST_GROUPS} can be groups: order "
                "by it, or filter first."
            )
        counts = np.bincount(encoded.indices.to_numpy(), minlength=len(encoded.dictionary))
        return [Group(value, int(count)) for value, count in zip(encoded.dictionary.to_pylist(), counts, strict=True)]

    def _find(self, asked: Asked) -> Numbers:
        if not len(self._table):  # nothing is committed yet, and no column is known
            return np.array([], np.int64)
        if asked != asked.ungrouped:
            return self._sorted(self.numbers(asked.ungrouped), asked)
        numbers = self._where(asked.where) if asked.where else np.arange(len(self._table))
        if asked.search:
            found = pc.match_substring(self._table.column("prompt"), asked.search, ignore_case=True)
            numbers = numbers[found.fill_null(False).to_numpy()[numbers]]
        if asked.near is not None:
            numbers = near(self._table, numbers, asked.near, asked.bits)
        if asked.marked:
            numbers = numbers[np.isin(numbers, marked(self._table, self._marks, asked.marked))]
        return numbers

    def _where(self, where: str) -> Numbers:
        """The expression sees those columns only whose names stand in it: others need not be read."""
        columns = self._table.types
        text = COUNT.sub("", where).casefold()
        everything = ALL.search(text) is not None
        wanted = [name for name in columns if everything or name.casefold().replace('"', '""') in text]
        number = _free(columns)
        table = pa.table(
            {name: self._table.column(name) for name in wanted} | {number: pa.array(np.arange(len(self._table)))}
        )
        with matching(table, where, list(columns)) as found:
            numbers: Numbers = found.project(_quoted(number)).fetchnumpy()[number]
        return np.sort(np.ma.getdata(numbers).astype(np.int64))

    def _sorted(self, numbers: Numbers, asked: Asked) -> Numbers:
        """By the group, then by the column of the order, then as they were; what is null comes last."""
        keys = [(name, "ascending") for name in [asked.group] if name]
        if asked.order and asked.order != asked.group:
            keys.append((asked.order, "descending" if asked.descending else "ascending"))
        elif asked.order and asked.descending:
            keys = [(asked.order, "descending")]
        columns = {f"{at}": _sortable(self._table.column(name)) for at, (name, _) in enumerate(keys)}
        at = pa.array(numbers)
        taken = pa.table({name: column.take(at) for name, column in columns.items()})
        order = [(f"{at}", direction) for at, (_, direction) in enumerate(keys)]
        places: Numbers = pc.sort_indices(taken, sort_keys=order).to_numpy()  # which is stable
        return numbers[places]


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    if pa.types.is_nested(kind):
        return pa.chunked_array([pa.array([None if one is None else str(one) for one in column.to_pylist()])])
    return column


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _free(taken: object) -> str:
    name = "number"
    while name in taken:  # type: ignore[operator]
        name += "_"
    return name
