"""The caption of an image: its prompt, another column of its row, or a template around columns.

A template is what `sweep.prompt` has: `{prompt}, {style}`; a brace of the text itself stands twice. Knows rows and no
target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.errors import Problem, Refused
from batchgen.job.wording import Wording
from batchgen.words import nearest, visible


@dataclass(frozen=True, slots=True)
class Caption:
    """What `--caption` says. Values go into a template as they are: none of them is read as one."""

    wording: Wording

    @classmethod
    def of(cls, text: str | None, columns: Sequence[str]) -> Caption:
        """text: None is the prompt. columns: of the metadata. Raises Refused with all columns that are not there."""
        try:
            wording = Wording.of("prompt" if text is None else text, "--caption")
        except ValueError as error:
            raise Refused(str(error)) from None
        if unknown := [name for name in wording.columns if name not in columns]:
            there = ", ".join(visible(name) for name in columns)
            raise Refused(
                [
                    Problem(f"the run has no column {name!r}.{nearest(name, columns)} There are: {there}.", "--caption")
                    for name in unknown
                ]
            )
        return cls(wording)

    def __call__(self, values: Mapping[str, Any]) -> str:
        """Of the row with these values; null is no text."""
        pieces = list[str]()
        for literal, column in self.wording.parts:
            value = None if column is None else values[column]
            pieces += (literal, "" if value is None else str(value))
        return "".join(pieces)
