"""A line of JSONL: an object with its keys and kinds of values, or what is wrong with it.

Knows JSON, not meaning: keys are the file's own. Reads no file.
"""

from __future__ import annotations

import json
from typing import Any

from batchgen.manifest.formats import Line
from batchgen.words import is_unicode

NO_OBJECTS = (
    'no line is a JSON object. Write one object per line: {"prompt": "..."}. '
    "A JSON array becomes that with: jq -c '.[]'."
)


def kind_of(value: Any) -> str:
    """The kind of a JSON value. Integers that a float, or an int64, cannot hold are kinds of their own."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "bool"
    if isinstance(value, int):
        return "int" if -(2**53) <= value <= 2**53 else "long" if -(2**63) <= value < 2**63 else "huge"
    return "str" if isinstance(value, str) else "float" if isinstance(value, float) else "nested"


def parse_line(line: bytes, before: int) -> Line | None:
    """One line with `before` lines in front of it; None where it is blank."""
    line = line.strip()
    if not line:
        return None
    number = before + 1
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Line.not_unicode(number, line, error)
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        return Line(number, text, None, "BAD_JSON", f"the line is not JSON ({reason}): write one object per line")
    if "\\u" in text and isinstance(value, dict) and not all(map(is_unicode, value)):
        return Line(number, text, None, "BAD_UTF8", "a key of the line holds half a character: write whole ones")
    if not isinstance(value, dict):
        return Line(number, text, None, "BAD_JSON", 'the line is not a JSON object: write {"prompt": "..."}')
    return Line(number, "", value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON says nothing about a key that stands twice; taking the last without a word would hide the first."""
    record = dict(pairs)
    if len(record) < len(pairs):
        seen = set[str]()
        doubled = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {doubled!r} stands twice")
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
