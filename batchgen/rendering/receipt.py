"""What a renderer says of a shard that it was given: rendered, given back, doubted, or why it or the job must stop.

Travels from actor to driver as one row of a table. Knows errors by their names; pictures never pass through here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Self

import pyarrow as pa

from batchgen.errors import BatchgenError, Infrastructure, OtherPlan, Refused

_TYPES = {"int": pa.int32(), "str": pa.string(), "float": pa.float64(), "bytes": pa.binary()}


@dataclass(slots=True, kw_only=True)
class Receipt:
    """shard: its number. images, failed, suspect: how many rows became what. attempts of others count as well.

    why: of one of the rows that failed. unfinished: the shard was given back, because no more is to be begun, and so
    many others this renderer has to finish. doubted: rows that failed here, of which another device is to be asked.
    sick: why this renderer should get no more. error, kind: what stops the job, and its class in batchgen.errors.
    renderer: host and process. device: host and GPU, or what stands for it. renderer_seconds: since it started, loading
    included. entry: what the ledger is to say of the shard, packed; None where it is not committed.
    """

    shard: int
    images: int = 0
    failed: int = 0
    suspect: int = 0
    why: str | None = None
    unfinished: int | None = None
    doubted: int = 0
    sick: str | None = None
    error: str | None = None
    kind: str | None = None
    renderer: str = ""
    device: str = ""
    renderer_seconds: float = 0.0
    entry: bytes | None = None

    @classmethod
    def done(
        cls, shard: int, images: int, failed: int, suspect: int = 0, why: str | None = None, entry: bytes | None = None
    ) -> Self:
        return cls(shard=shard, images=images, failed=failed, suspect=suspect, why=why, entry=entry)

    @classmethod
    def given_back(cls, shard: int, unfinished: int) -> Self:
        return cls(shard=shard, unfinished=unfinished)

    @classmethod
    def broken(cls, shard: int, error: BatchgenError) -> Self:
        return cls(shard=shard, error=str(error), kind=type(error).__name__)

    @property
    def is_done(self) -> bool:
        """Whether the shard is committed."""
        return self.unfinished is None and not self.doubted and self.sick is None and self.error is None

    def raise_if_broken(self) -> None:
        """Raises the error that stopped the renderer, in this process."""
        if self.error is not None:
            kinds: dict[str, type[BatchgenError]] = {kind.__name__: kind for kind in (Refused, OtherPlan)}
            raise kinds.get(self.kind or "", Infrastructure)(self.error)


SCHEMA = pa.schema([(one.name, _TYPES[str(one.type).split(" ")[0]]) for one in fields(Receipt)])


def to_table(receipts: list[Receipt]) -> pa.Table:
    return pa.Table.from_pylist([asdict(receipt) for receipt in receipts], schema=SCHEMA)


def from_table(table: pa.Table) -> list[Receipt]:
    return [Receipt(**row) for row in table.to_pylist()]
