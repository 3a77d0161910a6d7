"""Runs of one job with several models, one below a directory for each: a file there names them, in the job's order.

So a store need not be searched for runs. Knows names; what a run is, `directory` knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from batchgen.run.layout import HIDDEN
from batchgen.storage.store import Store

SIBLINGS = f"{HIDDEN}/models.json"


def names_below(store: Store) -> list[str]:
    """The runs that a job has begun below this directory. Empty: none with several models has."""
    if not store.exists(SIBLINGS):
        return []
    names = json.loads(store.read(SIBLINGS))["models"]
    return [name for name in names if isinstance(name, str)]


def name_below(store: Store, names: Iterable[str]) -> None:
    """Add to them what is new; a model that left the job keeps its run."""
    there = names_below(store)
    if more := [name for name in names if name not in there]:
        store.replace(SIBLINGS, json.dumps({"models": [*there, *more]}).encode())
