"""What the page asks to see: which rows, in which order and groups. It comes from a browser, and is checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from batchgen.errors import Refused
from batchgen.run.hashes import BITS

LONGEST = 10_000  # characters of an expression, or of a search


@dataclass(frozen=True, slots=True)
class Asked:
    """where: an expression. search: words of the prompt. order, group: columns. near: the number of a row; pictures
    that differ from its in at most `bits` bits are wanted. marked: keep or drop."""

    where: str = ""
    search: str = ""
    order: str = ""
    descending: bool = False
    group: str = ""
    near: int | None = None
    bits: int = 8
    marked: str = ""

    @classmethod
    def of(cls, values: Mapping[str, str], columns: Mapping[str, object], rows: int) -> Asked:
        """Raises Refused for what cannot be asked for."""
        asked = cls(
            where=values.get("where", "").strip(),
            search=values.get("search", "").strip(),
            order=values.get("order", ""),
            descending=values.get("descending") == "1",
            group=values.get("group", ""),
            near=number(values, "near", rows) if values.get("near") else None,
            bits=number(values, "bits", BITS + 1) if values.get("bits") else cls().bits,
            marked=values.get("marked", ""),
        )
        if max(len(asked.where), len(asked.search)) > LONGEST:
            raise Refused(f"more than {LONGEST} characters are too many for a filter.")
        for name in (asked.order, asked.group):
            if name and name not in columns:
                raise Refused(f"there is no column {name!r}.")
        if asked.marked not in ("", "keep", "drop"):
            raise Refused(f"{asked.marked!r} is no mark.")
        return asked

    @property
    def words(self) -> str:
        """What chooses the rows, for people."""
        parts = [
            self.where,
            f"prompt has {self.search!r}" if self.search else "",
            f"marked {self.marked}" if self.marked else "",
            "" if self.near is None else f"within {self.bits} bits of one picture",
        ]
        return " and ".join(filter(None, parts))

    @property
    def ungrouped(self) -> Asked:
        """The same rows, in the order of the plan."""
        return replace(self, order="", descending=False, group="")


def number(values: Mapping[str, str], name: str, below: int) -> int:
    """A number from 0. Raises Refused where it is none, or not below this one."""
    text = values.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) >= below:
        raise Refused(f"{name}: {text[:20]!r} is no number from 0 to {below - 1}.")
    return int(text)
