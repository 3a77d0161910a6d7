"""Scores of a run's images, in OUT/scores/<scorer>/: a file that says who scored, and tables by image_id.

Files are created once: a shard of images gets a table when it is scored, and a file of somebody else's scores becomes
one part. An image without a score is missing there, or has a reason in `error`; it is never zero. Knows the files, and
neither how a score is made nor what it is good for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.errors import Refused
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.layout import SCORES, number_in, shard_name
from batchgen.run.parquet import read_parquet
from batchgen.run.plans import digest
from batchgen.storage.store import Store

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("score", pa.float64()),  # null: not scored
        pa.field("detail", pa.string()),  # JSON: answers, boxes, parts of the score
        pa.field("error", pa.string()),  # why there is no score
    ]
)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Who scored. weights_sha256: of the model's files, null where there are none. low, high: ends of the scale.

    source: the file that scores came from; null where batchgen scored. settings: what else decides a score.
    """

    scorer: str
    version: str
    weights_sha256: str | None = None
    higher_is_better: bool = True
    low: float | None = None
    high: float | None = None
    source: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: bytes) -> About:
        """Raises ValueError for what is none. Fields that are not known yet are left out."""
        with found_damaged():
            values = json.loads(data)
            return cls(**{one.name: values[one.name] for one in fields(cls) if one.name in values})

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one scorer. table: the columns of SCHEMA, an image once."""

    about: About
    table: pd.DataFrame


def begin(store: Store, about: About) -> None:
    """Say who scores. Raises Refused where others of this name have scored: their numbers are not to be mixed."""
    if not NAME.fullmatch(about.scorer):
        raise Refused(f"{about.scorer!r} cannot be a scorer's name: use small letters, digits, '-', '_' and '.'.")
    if store.create(_about(about.scorer), about.to_json()):
        return
    there, here = asdict(_read_about(store, about.scorer)), asdict(about)
    if differing := [name for name in here if here[name] != there[name] and name != "source"]:
        lines = [f"  {name}: there {there[name]!r}, now {here[name]!r}" for name in differing]
        raise Refused(
            f"{store}/{SCORES}/{about.scorer}: holds scores that were made otherwise.\n" + "\n".join(lines) + "\n"
            f"Give these another name (--name {about.scorer}-2), or delete that folder."
        )


def write_shard(store: Store, scorer: str, shard: int, rows: Iterable[dict[str, Any]]) -> bool:
    """The scores of one shard, once. False: somebody was faster, and theirs count."""
    return store.create(shard_path(scorer, shard), _parquet(rows))


def write_part(store: Store, about: About, rows: Iterable[dict[str, Any]]) -> str:
    """Scores that were made elsewhere, as one file named by its content; written again it is the same file."""
    begin(store, about)
    data = _parquet(rows)
    path = f"{SCORES}/{about.scorer}/part-{digest(data)[:16]}.parquet"
    store.create(path, data)
    return path


def shard_path(scorer: str, shard: int) -> str:
    return f"{SCORES}/{scorer}/{shard_name(shard)}.parquet"


def scored_shards(store: Store, scorer: str) -> set[int]:
    """Numbers of the shards that are scored."""
    names = [entry.path.split("/")[-1].removesuffix(".parquet") for entry in store.list(f"{SCORES}/{scorer}")]
    return {number for name in names if (number := number_in(name)) is not None}


def scorer_names(store: Store) -> list[str]:
    """Who scored this run."""
    return sorted({entry.path.split("/")[1] for entry in store.list(SCORES) if entry.path.count("/") == 2})


def read_scores(store: Store, names: Iterable[str] | None = None) -> dict[str, Scores]:
    """Scorer → its scores; all that are there, or only some. Raises Refused for what is not there or is damaged."""
    there = scorer_names(store)
    wanted = there if names is None else list(names)
    if unknown := [name for name in wanted if name not in there]:
        raise Refused(
            f"{store}: has no scores of {', '.join(unknown)}; there are {', '.join(there) or 'none'}. "
            f"Make them: batchgen score {store} --with ..."
        )
    return {name: Scores(_read_about(store, name), _table(store, name)) for name in wanted}


def _table(store: Store, name: str) -> pd.DataFrame:
    """All tables of a scorer. An image that two of them have counts as in the one whose name sorts last."""
    tables = []
    for entry in store.list(f"{SCORES}/{name}"):
        if entry.path.endswith(".parquet"):
            try:
                with found_damaged():
                    tables.append(read_parquet(store.read(entry.path)).cast(SCHEMA))
            except DAMAGED as error:
                raise Refused(f"{store}/{entry.path}: is damaged ({error}). Delete it and score again.") from error
    table: pd.DataFrame = pa.concat_tables([SCHEMA.empty_table(), *tables]).to_pandas()
    return table.drop_duplicates("image_id", keep="last", ignore_index=True)


def _read_about(store: Store, name: str) -> About:
    try:
        return About.from_json(store.read(_about(name)))
    except DAMAGED as error:
        raise Refused(
            f"{store}/{_about(name)}: cannot be read ({error}). Delete {SCORES}/{name}, score again."
        ) from error


def _about(scorer: str) -> str:
    return f"{SCORES}/{scorer}/about.json"


def _parquet(rows: Iterable[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data
