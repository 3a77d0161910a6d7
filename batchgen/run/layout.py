"""The names of all files of a run directory. Knows no content."""

from __future__ import annotations

HIDDEN = ".batchgen"
DATA = "data"
METADATA = "metadata"
SUCCESS = "_SUCCESS"
CARD = "README.md"


def plan_directory(plan: str) -> str:
    return f"{HIDDEN}/plan/{plan}"


def plan_json(generation: int) -> str:
    return f"{HIDDEN}/plan-{generation:03}.json"


def data_path(shard: int) -> str:
    return f"{DATA}/shard-{shard:06}.parquet"


def shard_number(path: str) -> int | None:
    """123 for 'data/shard-000123.parquet', None for any other path."""
    stem = path.removeprefix(f"{DATA}/shard-").removesuffix(".parquet")
    number = int(stem) if stem.isdecimal() else None
    return number if number is not None and data_path(number) == path else None
