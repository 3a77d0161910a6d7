"""Makes parts of an export: orders and a part in, files in the store, a tally out.

Knows no Ray API: Ray Data calls it with tables, and without Ray it is called in the driver's process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.errors import BatchgenError, raise_told, told
from batchgen.export.layout import Layout, Place, Tally
from batchgen.export.part import Part
from batchgen.export.samples import Block, Reader


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told, once."""

    reader: Reader
    layout: Layout
    place: Place

    def write(self, part: Part) -> Tally:
        notes = list[str]()
        tally = self.layout.write(self.place, part, _noted(self.reader.blocks(part), notes))
        for note in notes:
            tally.note(note)
        return tally


def _noted(blocks: Iterator[Block], notes: list[str]) -> Iterator[Block]:
    for block in blocks:
        if block.note:
            notes.append(block.note)
        yield block


class Worker:
    """What Ray Data makes an actor of."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def __call__(self, batch: pa.Table) -> pa.Table:
        """An error of ours goes in the receipt: Ray would try again, and lose its words."""
        receipts = list[dict[str, Any]]()
        try:
            for row in batch.to_pylist():
                tally = self._orders.write(Part(**row))
                receipts.append(
                    {"written": tally.written, "there": tally.there, "images": tally.images, "notes": tally.notes}
                )
        except BatchgenError as error:
            receipts.append(told(error))
        return pa.Table.from_pylist(receipts, schema=RECEIPTS)


RECEIPTS = pa.schema(
    [
        ("written", pa.int64()),
        ("there", pa.int64()),
        ("images", pa.int64()),
        ("notes", pa.list_(pa.string())),
        ("broken", pa.string()),  # why the work ends here
        ("kind", pa.string()),
    ]
)


def tally_of(receipt: dict[str, Any]) -> Tally:
    """Raises, in this process, what ended a worker."""
    raise_told(receipt)
    return Tally(**receipt)
