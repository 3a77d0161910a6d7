"""A part of an export: consecutive images of its sequence, with the number and the digest that tell it from others.

Data only. A part of the same number holds the same images whenever it is made, so whoever makes it writes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Part:
    """shards: in whose data file each image lies. groups: images of one group are read together, and stand together.

    first: the place of its first image in the whole export.
    """

    number: int
    first: int
    image_ids: Sequence[str]
    shards: Sequence[int]
    groups: Sequence[int]

    def read_together(self) -> Iterator[tuple[list[str], list[int]]]:
        """image_ids with their shards, a group after the other."""
        rows = zip(self.groups, self.image_ids, self.shards, strict=True)
        for _, group in groupby(rows, key=lambda row: row[0]):
            members = list(group)
            yield [image_id for _, image_id, _ in members], [shard for _, _, shard in members]

    def digest(self, said: str) -> str:
        """Of all that decides its bytes. said: what decides those of every part."""
        found = hashlib.sha256(said.encode())
        for image_id in self.image_ids:
            found.update(b"\n" + image_id.encode())
        return found.hexdigest()
