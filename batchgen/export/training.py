"""Writes an export for training: which parts are to be made, and what stands beside them. Run it again to continue.

One part after the other is read, made and stored, so that memory does not grow with the run. What lies in the folder
must be what would be written, and nothing else lies there. Knows no layout by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from batchgen.errors import Refusals, Refused, StoreRefused
from batchgen.evaluate.exported import Record, write_record
from batchgen.export.captions import Caption
from batchgen.export.choice import Choice
from batchgen.export.graph import write_parts
from batchgen.export.layout import Layout, Place, Tally
from batchgen.export.layouts import layout_named, refuse_idle
from batchgen.export.options import Form, Options
from batchgen.export.order import Order, order_of
from batchgen.export.part import Part
from batchgen.export.samples import Reader
from batchgen.export.worker import Orders
from batchgen.export.writer import refuse_foreign, refuse_place
from batchgen.job import Cluster
from batchgen.run.directory import Run
from batchgen.run.reading import in_order
from batchgen.schema import STATUS_FIELDS, extras_of, metadata_schema
from batchgen.storage.store import Store

MANY_FILES = 100_000  # more than a file system, or whoever lists it, likes in one folder
STATUS = {field.name for field in STATUS_FIELDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """tally: of files. images: that are in the export now. notes: for people, without a full stop."""

    dest: str
    tally: Tally
    images: int
    notes: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """For people."""
        there = f", {self.tally.there} were there" if self.tally.there else ""
        yield f"{self.dest}: {self.tally.written} files written{there}, of {self.images} images."
        yield from (f"note: {note}." for note in self.notes)


def export_for_training(
    run: Run,
    dest: str,
    to: str,
    choice: Choice | None = None,
    options: Options | None = None,
    cluster: Cluster | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Written:
    """to: the name of a layout. cluster: of how many actors; more than one are on Ray. warn: is told before it begins.

    Raises Refused where dest holds something else, or what is asked for cannot be had of this run.
    """
    choice, options, store = choice or Choice(), options or Options(), Store.open(dest)
    layout, reader = _prepared(run, store, to, choice, options)
    order = order_of(run, choice, options.mix_buckets)
    if order.complete and not len(order.rows):
        left = f"None of its {order.unchosen} images is chosen" if order.unchosen else "It has none"
        raise Refused(f"{run.store}: there is nothing to export. {left}; {sum(order.failed.values())} failed.")
    said = {"to": to, "caption": options.caption, "images": layout.part_size, "form": reader.form.deciding()}
    place = Place(store, {entry.path: entry.size for entry in store.list()}, json.dumps(said, sort_keys=True))
    parts = order.parts(layout.part_size)
    refuse_foreign(store, _foreign(layout, place, parts))
    if not layout.is_sharded and (files := sum(1 for part in parts for _ in layout.paths(part))) > MANY_FILES:
        warn(f"note: {files} files are many in folders: --to webdataset has few, and reads faster.")
    tally = _write(Orders(reader, layout, place), parts, order, cluster or Cluster())
    store.remove_temporary()
    if order.complete:
        _keep(run, _record(run, store, to, said, order, parts, tally.written + tally.there), tally)
    images = sum(len(part.image_ids) for part in parts)
    notes = (*_notes(order, images, layout.part_size), *reader.form.notes(options), *tally.notes)
    return Written(dest=str(store), tally=tally, images=images, notes=notes)


def _prepared(run: Run, store: Store, to: str, choice: Choice, options: Options) -> tuple[Layout, Reader]:
    """Raises Refused with all that is wrong with what is asked for, before anything is read."""
    refusals = Refusals()
    with refusals.gather():
        refuse_place(run, store)
    with refusals.gather():
        choice.refuse_unfit(run)
    with refusals.gather():
        caption = Caption.of(options.caption, _columns(run))
    with refusals.gather():
        form = Form.of(options, run.plans[0])
    with refusals.gather():
        refuse_idle(to, options)
    refusals.raise_any()
    return layout_named(to, options, form, store), Reader(store=run.store, caption=caption, form=form)


def _columns(run: Run) -> list[str]:
    """Of which a caption can be made: what is stored with a picture."""
    there = run.plan_schema()
    return [name for name in metadata_schema(extras_of(there) if there else ()).names if name not in STATUS]


def _write(orders: Orders, parts: Sequence[Part], order: Order, cluster: Cluster) -> Tally:
    """All parts that are not there, and then what stands beside them."""
    tally, missing = Tally(), list[Part]()
    written = in_order(parts, partial(orders.layout.is_written, orders.place))
    for part, is_there in zip(parts, written, strict=True):
        if is_there:
            tally.count(0, sum(1 for _ in orders.layout.paths(part)))
        else:
            missing.append(part)
    for one in write_parts(orders, missing, cluster) if missing else ():
        tally.add(one)
    if order.complete:
        rows = replace(orders.reader, pictures=False)
        blocks = ((part, block) for part in parts for block in rows.blocks(part))
        tally.add(orders.layout.finish(orders.place, parts, blocks))
    return tally


def _foreign(layout: Layout, place: Place, parts: Sequence[Part]) -> set[str]:
    """What lies there and is none of this export's."""
    foreign = place.sizes.keys() - set(layout.beside)
    for part in parts if foreign else ():
        foreign.difference_update(layout.paths(part))
    return foreign


def _keep(run: Run, record: Record, tally: Tally) -> None:
    try:
        write_record(run.store, record)
    except StoreRefused as error:  # a run may be another's, and only to be read
        tally.note(f"the run does not know of this export. {str(error).rstrip('.')}")


def _record(
    run: Run, store: Store, to: str, said: dict[str, Any], order: Order, parts: Sequence[Part], files: int
) -> Record:
    """Without its images: their rows in the export say which they are."""
    ids = chain.from_iterable(part.image_ids for part in parts)
    chosen = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest() if order.unchosen else None
    return Record(
        target=to, dest=str(store), fingerprint=run.plans[-1].fingerprint, selection=chosen, roots=("",), files=files,
        shows=(), options=said,
    )  # fmt: skip


def _notes(order: Order, images: int, part_size: int) -> Iterator[str]:
    if order.failed:
        codes = ", ".join(f"{code}: {count}" for code, count in order.failed.items())
        yield f"{sum(order.failed.values())} images failed and are left out ({codes})"
    if order.unchosen:
        yield f"{order.unchosen} images are not chosen"
    if order.note:
        yield order.note
    if not order.complete:
        yield (
            f"{order.missing} images are not rendered yet, or stand behind one that is not: {len(order.rows) - images} "
            f"that are there wait for a part of {part_size} to be full. Run this again"
        )
