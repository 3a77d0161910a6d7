"""What is wrong with the books of a run: _SUCCESS, metadata/ and the card must say what the data files hold.

Running the render command again writes them anew. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from batchgen import schema
from batchgen.errors import Infrastructure
from batchgen.finalize.card import names_the_pictures, tells_other_counts
from batchgen.finalize.metadata import Totals, metadata
from batchgen.finalize.success import Success
from batchgen.look.same import differing
from batchgen.run.damage import found_damaged
from batchgen.run.directory import Run
from batchgen.run.layout import CARD, CROISSANT, METADATA, SUCCESS
from batchgen.run.parquet import read_parquet
from batchgen.run.plans import PlanFile, digest

AGAIN = "Run the render command again."


def book_problems(run: Run, rows: bool) -> Iterator[str]:
    """Nothing where none were written yet. rows: compare them with the data files too, as these are sound."""
    if not run.store.exists(SUCCESS):
        return
    said = Success.read(run)
    if said is None:
        yield f"{SUCCESS}: is damaged. {AGAIN}"
        return
    if said.plans != [plan.plan for plan in run.plans]:
        yield f"{SUCCESS}: was written for other plans than there are. {AGAIN}"
        return
    damaged = list(_part_problems(run, said.metadata))
    yield from damaged
    if not run.store.exists(CARD):
        yield f"{CARD}: the dataset card is missing. {AGAIN}"
    elif tells_other_counts(_card(run), said.totals):
        yield f"{CARD}: tells other counts than {SUCCESS}. {AGAIN}"
    if rows and not damaged:
        yield from _other_rows(run, said)


def card_notes(run: Run) -> Iterator[str]:
    """What somebody made of the dataset card, which is theirs to change."""
    if not run.store.exists(CARD):
        return
    said, card = Success.read(run), _card(run)
    if not names_the_pictures(card):
        yield f"{CARD}: its front matter does not name data/*.parquet: load_dataset may take other files for the data"
    elif said and said.card is not None and digest(run.store.read(CARD)) != said.card:
        yield f"{CARD}: was edited after it was written"
    if said and said.croissant is not None:
        if not run.store.exists(CROISSANT):
            yield f"{CROISSANT}: is gone; it belongs to the dataset card"
        elif digest(run.store.read(CROISSANT)) != said.croissant:
            yield f"{CROISSANT}: was edited after it was written"


def _card(run: Run) -> str:
    return run.store.read(CARD).decode(errors="replace")


def _part_problems(run: Run, metadata: list[PlanFile]) -> Iterator[str]:
    parts = {part.path: part.sha256 for part in metadata}
    there = {entry.path for entry in run.store.list(METADATA)}
    for path in sorted(there - parts.keys()):
        yield f"{path}: does not belong to the metadata, and readers would see it. Move it out of {METADATA}/."
    for path in sorted(parts):
        if path not in there:
            yield f"{path}: is missing. {AGAIN}"
        elif digest(run.store.read(path)) != parts[path]:
            yield f"{path}: is damaged. Delete it and run the render command again."


def _other_rows(run: Run, said: Success) -> Iterator[str]:
    """Whether metadata/ holds what the plans and the data files do. One part is held at a time."""
    totals, tables = Totals(), metadata(run)
    waiting = list[pa.Table]()
    try:
        for part in said.metadata:
            with found_damaged(), run.store.open_file(part.path) as opened:
                stored = read_parquet(opened)
            while sum(map(len, waiting)) < len(stored) and (table := next(tables, None)) is not None:
                totals.add(table)
                waiting.append(table)
            joined = pa.concat_tables(waiting) if waiting else stored.slice(0, 0)
            names = _compared(stored) if len(joined) >= len(stored) else ["image_id"]
            for name in differing(joined.slice(0, len(stored)), stored, names):
                yield f"{part.path}: column {name} is not that of {run.store}/data. {AGAIN}"
            waiting = [joined.slice(len(stored))]
        for table in tables:
            totals.add(table)
            waiting.append(table)
    except Infrastructure:  # a file of the plan or of data/ is at fault, and already among the problems
        return
    except ValueError as error:
        yield f"{METADATA}: cannot be compared with the data ({error}). {AGAIN}"
        return
    if sum(map(len, waiting)):
        yield f"{METADATA}: lacks rows of the data files. {AGAIN}"
    if not said.counts_as(totals):
        yield f"{SUCCESS}: has other counts than the data files. {AGAIN}"


def _compared(stored: pa.Table) -> list[str]:
    """What a picture's row is held to. Not the words of a failure, nor what the job was: versions may say it anew."""
    own = [*schema.STATUS_FIELDS, *schema.ROW_FIELDS, *schema.RENDER_FIELDS, *schema.extras_of(stored.schema)]
    names = {field.name for field in own} - {"error_message"} | {"plan", "fingerprint"}
    return [name for name in stored.column_names if name in names]
