"""One pass over shards for several scorers: each picture is read and decoded once, whoever wants to see it.

Threads read, decode and prepare ahead of the models. Knows neither Ray nor what a scorer does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.errors import BatchgenError, Infrastructure
from batchgen.evaluate.desk import Desk, Done, failed
from batchgen.evaluate.scorer import Row, Scorer
from batchgen.run import images
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.layout import data_path
from batchgen.run.parquet import read_parquet
from batchgen.run.reading import ahead
from batchgen.storage.store import Store

SHARDS_AHEAD = 2  # read while another is at work; a shard's pictures are some hundred megabytes at most
BATCHES_AHEAD = 2

Todo = Mapping[int, Collection[str]]  # number of a shard → names of the scorers that have not seen it


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture on its way to the desks of those who want to see it. at: its place in its shard."""

    shard: int
    at: int
    row: Row
    data: bytes
    wanted: Collection[str]


def score_shards(store: Store, todo: Todo, scorers: Sequence[Scorer], batch_size: int, threads: int) -> Iterator[Done]:
    """Score shards; says of each, as soon as it is stored. The scorers are loaded."""
    desks = {scorer.about.scorer: Desk(scorer, store, batch_size) for scorer in scorers}

    def look(picture: Picture) -> tuple[Picture, dict[str, Any]]:
        return picture, _prepared(picture, [desks[name].scorer for name in picture.wanted])

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(threads) as pool:
        tables = ahead(reader, lambda number: (number, _read(store, number)), sorted(todo), SHARDS_AHEAD)
        window = threads + BATCHES_AHEAD * batch_size
        for picture, prepared in ahead(pool, look, _opened(tables, todo, desks), window):
            for name, one in prepared.items():
                yield from desks[name].take(picture.shard, picture.at, picture.row, one)
    for desk in desks.values():
        yield from desk.finish()


def _opened(tables: Iterator[tuple[int, pa.Table]], todo: Todo, desks: Mapping[str, Desk]) -> Iterator[Picture]:
    """The pictures of all shards, after their desks were told how many will come."""
    for number, table in tables:
        rows = table.drop_columns(["image"]).to_pylist()
        for name in todo[number]:
            desks[name].open(number, [row["image_id"] for row in rows])
        for at, row in enumerate(rows):
            yield Picture(number, at, row, table["image"][at].as_py()["bytes"], todo[number])


def _prepared(picture: Picture, scorers: Sequence[Scorer]) -> dict[str, Any]:
    """Name of a scorer → what it takes of this picture, or a Score that says why it takes nothing."""
    try:
        pixels = images.decode(picture.data)
    except ValueError as error:
        return {scorer.about.scorer: failed(error) for scorer in scorers}
    prepared: dict[str, Any] = {}
    for scorer in scorers:
        try:
            prepared[scorer.about.scorer] = scorer.prepare(pixels, picture.row)
        except BatchgenError:
            raise
        except Exception as error:  # noqa: BLE001  a scorer may be anybody's: any error is the picture's
            prepared[scorer.about.scorer] = failed(error)
    return prepared


def _read(store: Store, number: int) -> pa.Table:
    path = data_path(number)
    try:
        with found_damaged(), store.open_file(path) as opened:
            return read_parquet(opened)
    except DAMAGED as error:
        raise Infrastructure(f"{store}/{path}: cannot be read ({error}). Run batchgen doctor.") from error
