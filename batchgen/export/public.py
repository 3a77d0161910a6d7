"""A row of the metadata as it may leave the house: what made its picture, and the user's own columns.

Left out is what only this run and its machines know: files, places, devices, shards, how a failure went. Values are as
JSON has them. Knows rows; not where they go.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from batchgen.schema import CONSTANT_FIELDS, SOURCE_FIELDS, STATUS_FIELDS

# Of one run's books and machines. source_file may be a table's own column, and nothing tells: it goes as well.
INTERNAL = frozenset(
    {
        *(field.name for field in STATUS_FIELDS),
        *(field.name for field in SOURCE_FIELDS),
        *(field.name for field in CONSTANT_FIELDS),
        "planned_batch_size",
        "render_seconds",
        "attempt",
        "image",
    }
) - {"model", "revision", "model_digest", "dtype", "settings", "versions"}
HUB_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
AS_THEY_ARE = (str, int, bool, type(None))


def public(values: Mapping[str, Any]) -> dict[str, Any]:
    """values: a row of the metadata.

    `model` is the hub's name, or the last part of a path; of `settings` only those of the loop stay, as JSON. A number
    that JSON does not have is null, and a time or a decimal number is text.
    """
    row = {
        name: value if type(value) in AS_THEY_ARE else _plain(value)
        for name, value in values.items()
        if name not in INTERNAL
    }
    if "model" in row:
        row["model"] = model_name(values)
    if "settings" in row:
        row["settings"] = _of_the_loop(row["settings"])
    return row


def model_name(values: Mapping[str, Any]) -> str | None:
    """Of the model that a row was rendered with; None for a row that does not say it."""
    return _shown(values.get("model"), values.get("revision"))


@lru_cache(maxsize=64)
def _shown(model: str | None, revision: str | None) -> str | None:
    if model is None or (revision and HUB_NAME.fullmatch(model)):
        return model
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1]


@lru_cache(maxsize=64)
def _of_the_loop(settings: str | None) -> str | None:
    """Without what is said of the model and of a second pass, which holds paths. A run has few of these texts."""
    return None if settings is None else json.dumps(json.loads(settings).get("sampling", {}), sort_keys=True)


def _plain(value: Any) -> Any:
    """As JSON has it. Values come from Arrow or from pandas."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):  # numpy's numbers
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, AS_THEY_ARE) else str(value)
