"""Marks of images, keep or drop, and the selections that are made of them. They are gone when the server ends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import Refused
from batchgen.evaluate.selection import Selection, refuse_name, save
from batchgen.view.table import Numbers, Table

MARKS = ("keep", "drop")
BY_HAND = "kept by hand in batchgen view"


class Marks:
    """By run and image, so that they outlast a table that is read anew. For many threads."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self.saved = True  # nothing was marked since

    def counts(self) -> dict[str, int]:
        found = Counter(self._marks.copy().values())
        return {mark: found[mark] for mark in MARKS}

    def of(self, run: str, image_id: str) -> str:
        return self._marks.get((run, image_id), "")

    def put(self, run: str, image_id: str, mark: str) -> None:
        """mark: one of MARKS, or nothing."""
        if mark not in ("", *MARKS):
            raise Refused(f"{mark!r} is no mark.")
        with self._lock:
            self.saved = False
            if mark:
                self._marks[run, image_id] = mark
            else:
                self._marks.pop((run, image_id), None)

    def ids(self, run: str, mark: str) -> set[str]:
        """image_ids of a run."""
        with self._lock:
            return {image_id for (of, image_id), said in self._marks.items() if of == run and said == mark}


def marked(table: Table, marks: Marks, mark: str) -> Numbers:
    """The numbers of the rows that have a mark."""
    found = []
    for place, (label, _) in enumerate(table.runs):
        if ids := marks.ids(label, mark):
            first, end = table.span(place)
            column = table.column("image_id").slice(first, end - first)
            found.append(first + np.flatnonzero(pc.is_in(column, value_set=_array(ids)).to_numpy()))
    return np.concatenate(found) if found else np.array([], np.int64)


def select(table: Table, marks: Marks, name: str, shown: Numbers | None = None, asked: str = "") -> Mapping[str, int]:
    """Save a selection in each run: what is marked to be kept or, of rows that are shown, what is not to be dropped.

    asked: what chose the rows that are shown, in words. Returns how many images each run has in it. Raises Refused
    where that is nothing, or where another selection has the name.
    """
    refuse_name(name)
    if shown is None:
        numbers, where = marked(table, marks, "keep"), BY_HAND
    else:
        dropped = marked(table, marks, "drop")
        numbers = np.sort(shown[~np.isin(shown, dropped)])
        where = f"{asked or 'true'}, without {len(shown) - len(numbers)} that were dropped by hand"
    rows = table.take(numbers, ["image_id", "status"])
    ok = pc.equal(rows["status"], "ok").to_numpy()
    if not ok.any():
        raise Refused("no picture is chosen: mark some with k, or show some.")
    selections = []
    for place, (label, run) in enumerate(table.runs):
        first, end = table.span(place)
        ids = rows["image_id"].filter((numbers >= first) & (numbers < end) & ok).to_pylist()
        selection = Selection(
            name=name,
            where=where,
            dedupe=None,
            planned=end - first,
            chosen=len(ids),
            images=len(ids),
            image_ids=tuple(ids),
        )
        selections.append((label, run, selection))
    for _, run, selection in selections:
        save(run, selection)
    marks.saved = True
    return {label: selection.images for label, _, selection in selections}


def _array(ids: set[str]) -> pa.Array:
    return pa.array(sorted(ids), pa.string())
