"""What a layout for training is: where the samples of a part go, and how one knows that they are there.

Data and one protocol; knows no layout by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from batchgen.errors import Refused
from batchgen.export.part import Part
from batchgen.export.samples import Block
from batchgen.storage.drafts import Draft
from batchgen.storage.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """Where an export goes. sizes: of the files that lay there when it began. said: what decides all its bytes."""

    store: Store
    sizes: dict[str, int]
    said: str

    def digest(self, part: Part) -> str:
        return part.digest(self.said)

    def create(self, path: str, data: bytes) -> int:
        """How many files were written: 0 where the same was there. Raises Refused where something else is there."""
        if path not in self.sizes and self.store.create(path, data):
            return 1
        if self.store.read(path) != data:
            raise self._other(path)
        return 0

    def finish(self, draft: Draft, path: str) -> int:
        """The same of a draft."""
        if path not in self.sizes and draft.create(path):
            return 1
        if not draft.is_at(path):
            raise self._other(path)
        return 0

    def _other(self, path: str) -> Refused:
        return Refused(f"{self.store}/{path}: is there and is another file. Delete it, or export to a new folder.")


@dataclass(slots=True)
class Tally:
    """Of files. images: that are in them. notes: what somebody should know of these, each once."""

    written: int = 0
    there: int = 0
    images: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, written: int, files: int = 1) -> None:
        self.written += written
        self.there += files - written

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def note_clashes(self, ours: Iterable[str], theirs: Sequence[str], who: str) -> None:
        """Columns of the table that have the name of one of the layout's own. who: has them."""
        for name in ours:
            if name in theirs:
                self.note(f"{who} has a column {name} of its own, and that of the table is left out")

    def add(self, other: Tally) -> None:
        self.written += other.written
        self.there += other.there
        self.images += other.images
        for text in other.notes:
            self.note(text)


class Layout(Protocol):
    """What `--to NAME` means, for training."""

    @property
    def name(self) -> str: ...

    @property
    def part_size(self) -> int:
        """Images of a part, where nothing is said."""

    @property
    def is_sharded(self) -> bool:
        """Whether a part is a file, so that --shard-size says something."""

    @property
    def beside(self) -> Sequence[str]:
        """Files that belong to no part."""

    def paths(self, part: Part) -> Iterator[str]:
        """The files of a part."""

    def is_written(self, place: Place, part: Part) -> bool:
        """Whether there is a receipt of this part. Raises Refused where there is one of another."""

    def write(self, place: Place, part: Part, blocks: Iterator[Block]) -> Tally:
        """All files of a part, each whole or not at all, the receipt last."""

    def finish(self, place: Place, parts: Sequence[Part], blocks: Iterator[tuple[Part, Block]]) -> Tally:
        """What stands beside the parts, once all are written. blocks: of all parts, without their pictures."""
