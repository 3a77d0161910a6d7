"""What a target is: something that is given the rows of a run and yields files. Data only; knows no target by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Row:
    """An image of the run. values: its row of metadata/. file_name: of the picture, which says its format.

    picture: reads it, encoded as it is stored.
    """

    values: Mapping[str, Any]
    file_name: str
    picture: Callable[[], bytes]

    @property
    def image_id(self) -> str:
        return str(self.values["image_id"])


@dataclass(frozen=True, slots=True)
class File:
    """path: below the export's folder. images: the image of each tile, none for a file of text. data: makes its bytes.

    The bytes must be the same whenever they are made.
    """

    path: str
    images: tuple[str | None, ...]
    data: Callable[[], bytes]


class Target(Protocol):
    """What `--to NAME` means."""

    @property
    def name(self) -> str: ...

    @property
    def wants(self) -> str:
        """What it needs of a run, in a sentence for people."""

    def files(self, rows: Sequence[Row]) -> Iterator[File]:
        """All files of the export, each path once. Raises Refused for rows that are not for this target."""

    def roots(self, rows: Sequence[Row]) -> Sequence[str]:
        """The folders that a reader is pointed at; [""] where it is the whole export."""

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        """What else somebody who exports should know, in sentences."""
