"""What stands in the place of a prompt, in a cell or as a caption: another column, or a template around columns.

`rewritten_prompt` is a column, `{prompt}, studio photo` a template; a brace of the text itself stands twice. Knows no
table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter


@dataclass(frozen=True, slots=True)
class Wording:
    """parts: text, and the column whose value follows it; the last may have none."""

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, text: str, asked: str = "prompt") -> Wording:
        """Raises ValueError, which names what is asked for, where it is neither a column's name nor a template."""
        if not ("{" in text or "}" in text):
            return cls((("", text),))
        try:
            found = tuple(_parts(text))
        except ValueError as error:
            raise ValueError(
                f"{asked} {text!r} is no template ({error}): write {{column}} for a value, and {{{{ for a brace."
            ) from None
        if all(column is None for _, column in found):
            raise ValueError(f"{asked} {text!r} names no column: all rows would have the same. Write {{prompt}} in it.")
        return cls(found)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for _, column in self.parts if column is not None))


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    for literal, column, form, conversion in Formatter().parse(text):
        if column == "" or form or conversion:
            raise ValueError("between braces stands the name of a column and no more")
        yield literal, column
