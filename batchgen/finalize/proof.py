"""Proves that planned = committed + failed, then writes the metadata table, the card and _SUCCESS.

A pure function of the plans and the shards, and in the card of scores: any driver may run it, twice, at the same time
as another. Whoever ends last leaves books of the newest plans, because nobody ends before what lies there is proven: a
driver that was held up may write books of older plans, and then sees that plans or files have changed, and writes them
again.

Reads all columns but the pictures. Knows the run directory and neither Ray nor GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa

from batchgen.errors import Infrastructure
from batchgen.finalize.card import dataset_card, licence_of, tells_other_counts, title_of
from batchgen.finalize.croissant import croissant
from batchgen.finalize.metadata import Totals, metadata
from batchgen.finalize.safety import safety_lines
from batchgen.finalize.success import Success
from batchgen.run.directory import Run
from batchgen.run.layout import CARD, CROISSANT, METADATA, SUCCESS
from batchgen.run.parquet import read_parquet
from batchgen.run.plans import PlanFile, digest, to_parquet
from batchgen.run.reading import in_order

ROWS_PER_PART = 50_000
ROUNDS = 20  # each takes another command that planned, or finalized, in just that moment


def finalize(run: Run) -> Totals:
    """Write metadata/, README.md and, last, _SUCCESS, until they are proven of the plans that are there then.

    Raises Infrastructure where a shard is missing or damaged.
    """
    for _ in range(ROUNDS):
        now = Run.open(run.store)
        if totals := proven(now):
            return totals
        _write(now)
    raise Infrastructure(f"{run.store}: other commands keep changing this run. Run the same command again after them.")


def proven(run: Run) -> Totals | None:
    """The counts of proven_books()."""
    said = proven_books(run)
    return None if said is None else said.totals


def proven_books(run: Run) -> Success | None:
    """What a finalize proved of exactly these plans; None where it has to be done, or done again.

    Compares the digests of all files that it wrote. A card that somebody edited is theirs.
    """
    said = Success.read(run)
    if said is None or said.plans != [plan.plan for plan in run.plans] or said.totals.planned != run.planned:
        return None
    if _parts_there(run) != {part.path for part in said.metadata}:
        return None
    try:
        if not all(digest(run.store.read(part.path)) == part.sha256 for part in said.metadata):
            return None
        card = run.store.read(CARD).decode(errors="replace")
    except FileNotFoundError:
        return None
    return None if tells_other_counts(card, said.totals) else said


def _write(run: Run) -> None:
    run.store.delete(SUCCESS)  # first: it names what is about to be written over
    sizes = run.stored()
    if missing := len(set(range(run.next_shard)) - set(sizes)):
        raise Infrastructure(f"{run.store}: {missing} shards are missing. Run the same command again to render them.")
    totals = Totals()
    tables = enumerate(_of_parts(run, sizes, totals))
    parts = list(in_order(tables, partial(_write_part, run), readers=1, window=2))  # while the next one is read
    if totals.planned != run.planned:
        raise Infrastructure(
            f"{run.planned} images were planned, {totals.planned} are accounted for. Run batchgen doctor."
        )
    for left_over in _parts_there(run) - {part.path for part in parts}:
        run.store.delete(left_over)
    run.store.replace(CROISSANT, described := croissant(run, totals, parts, title_of(run), licence_of(run)))
    card = dataset_card(run, totals, list(safety_lines(run, totals.images))).encode()
    run.store.replace(CARD, card)
    plans = [plan.plan for plan in run.plans]
    success = Success(totals=totals, plans=plans, metadata=parts, card=digest(card), croissant=digest(described))
    run.store.replace(SUCCESS, success.to_json())


def renew_card(run: Run) -> bool | None:
    """Let the card say what was scored since. True: it does now; False: somebody edited it, and it stays as it is.

    None: there is nothing new to say, or the run is not finished, whose card is written later.
    """
    said = proven_books(run)
    if said is None or not (safety := list(safety_lines(run, said.totals.images))):
        return None
    totals = said.totals
    if said.counted != tuple(Totals.__dataclass_fields__):  # an earlier version counted less
        totals = Totals()
        for part in said.metadata:
            totals.add(read_parquet(run.store.read(part.path)))
    card = dataset_card(run, totals, safety).encode()
    if digest(run.store.read(CARD)) == digest(card):
        return None
    if digest(run.store.read(CARD)) != said.card:
        return False
    run.store.replace(CARD, card)
    renewed = replace(said, totals=totals, card=digest(card), counted=tuple(Totals.__dataclass_fields__))
    run.store.replace(SUCCESS, renewed.to_json())
    return True


def _of_parts(run: Run, sizes: dict[int, int], totals: Totals) -> Iterator[pa.Table]:
    """The rows of each part, at least one, which are counted on the way."""
    waiting, any_yet = list[pa.Table](), False
    for table in metadata(run, sizes=sizes):
        totals.add(table)
        waiting.append(table)
        while sum(map(len, waiting)) >= ROWS_PER_PART:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROWS_PER_PART)
            waiting, any_yet = [joined.slice(ROWS_PER_PART)], True
    if waiting and (sum(map(len, waiting)) or not any_yet):
        yield pa.concat_tables(waiting)


def _parts_there(run: Run) -> set[str]:
    """Files in metadata/ that have the names of parts."""
    named = re.compile(rf"{METADATA}/part-\d+\.parquet")
    return {entry.path for entry in run.store.list(METADATA) if named.fullmatch(entry.path)}


def _write_part(run: Run, numbered: tuple[int, pa.Table]) -> PlanFile:
    part, table = numbered
    path, data = f"{METADATA}/part-{part:05}.parquet", to_parquet(table.combine_chunks())
    run.store.replace(path, data)
    return PlanFile(path, digest(data), len(table))
