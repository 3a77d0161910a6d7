"""Rows as the page is told of them: JSON, of text that a page sets as text. Knows columns, and no server."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from batchgen.look import show
from batchgen.look.results import ENCODERS
from batchgen.view.marks import Marks
from batchgen.view.table import Numbers, Table
from batchgen.words import visible

CUT = tuple(f"truncated_{encoder}" for encoder in ENCODERS)
COLUMNS = (
    "image_id",
    "status",
    "error_code",
    "shard",
    "prompt",
    "seed",
    "cell",
    "suspect",
    *CUT,
)
LONGEST = 300  # characters of a prompt in the grid; the rest is in its details
EXACT = 2**53  # larger integers are none in JavaScript


def rows(table: Table, marks: Marks, numbers: Numbers, column: str = "", nsfw: str = "") -> list[dict[str, Any]]:
    """What the grid shows of these rows. column: one more. nsfw: the column of a score, where there is one."""
    wanted = dict.fromkeys([*COLUMNS, *filter(None, (column, nsfw))])
    found = table.take(numbers, [name for name in wanted if name in table.types]).to_pylist()
    return [_row(table, marks, int(number), row, column, nsfw) for number, row in zip(numbers, found, strict=True)]


def _row(table: Table, marks: Marks, number: int, row: Mapping[str, Any], column: str, nsfw: str) -> dict[str, Any]:
    run = table.run_of(number)
    image_id = row["image_id"]
    ok = row["status"] == "ok"
    return {
        "number": number,
        "run": run,
        "id": image_id,
        "picture": f"{table.keys[run]}/{row['shard']}/{image_id}" if ok else None,
        "failed": None if ok else visible(row["error_code"] or "failed"),
        "prompt": _clipped(row["prompt"]),
        "seed": None if row["seed"] is None else str(row["seed"]),
        "cell": row["cell"],
        "suspect": row["suspect"],
        "cut": [encoder for encoder, name in zip(ENCODERS, CUT, strict=True) if row.get(name) is not None],
        "value": plain(row[column]) if column else None,
        "nsfw": row[nsfw] if nsfw and row[nsfw] is not None and math.isfinite(row[nsfw]) else None,
        "mark": marks.of(table.runs[run][0], image_id),
    }


def details(table: Table, number: int) -> dict[str, Any]:
    """All that is known of a row, and the code that draws it, where batchgen rendered it."""
    row = table.row(number)
    run = table.runs[table.run_of(number)][1]
    code = show.snippet(row) if row["status"] == "ok" and not run.is_adopted else None
    return {
        "facts": list(show.facts(row)),
        "prompt": row["prompt"],
        "cut": {encoder: row[name] for encoder, name in zip(ENCODERS, CUT, strict=True) if row.get(name)},
        "code": code,
    }


def plain(value: Any) -> Any:
    """A value as JSON has it: a number or a text, or nothing."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _clipped(str(value))


def columns(table: Table) -> list[dict[str, str]]:
    """Name and kind of each column."""
    return [{"name": name, "kind": str(kind)} for name, kind in table.types.items()]


def _clipped(text: str | None) -> str:
    shown = visible(text or "")
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def nsfw_column(names: Sequence[str]) -> str:
    """The first column of a score of how unsafe for work a picture is; nothing where there is none."""
    return next((name for name in names if name.startswith("score_nsfw")), "")
