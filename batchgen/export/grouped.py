"""Lines that say the same of several things → the first of them, and how many more there are.

Two lines say the same where they differ in names alone: in what stands before a colon, in quotes, or has a digit or a
slash in it. Knows no benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

SHOWN = 5  # of each kind
NAME = re.compile(r"""'[^']*'|"[^"]*"|\S*[\d/]\S*""")


def grouped(lines: Sequence[str]) -> Iterator[str]:
    """In order of the first of each kind."""
    kinds: dict[str, list[str]] = {}
    for line in lines:
        subject, colon, said = line.partition(": ")
        kinds.setdefault(NAME.sub("*", said if colon else subject), []).append(line)
    for alike in kinds.values():
        yield from alike[:SHOWN]
        if len(alike) > SHOWN:
            yield f"... and {len(alike) - SHOWN} more like the last one"
