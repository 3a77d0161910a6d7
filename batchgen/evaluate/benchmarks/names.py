"""What several benchmarks' checks do: compare the files that their scorer asks for with those that are there.

Knows no benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def compared(there: Iterable[str], wanted: Iterable[str], missing: str, stray: str) -> Iterator[str]:
    """missing, stray: what happens to those, for people."""
    found, asked = set(there), list(wanted)
    for path in asked:
        if path not in found:
            yield f"{path}: is missing, and {missing}"
    for path in sorted(found.difference(asked)):
        yield f"{path}: {stray}"


def models_in(paths: Iterable[str], depth: int) -> list[str]:
    """The names of folders at a depth: where models stand in a layout of several."""
    return sorted({path.split("/")[depth] for path in paths if path.count("/") > depth})
