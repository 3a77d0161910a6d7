"""The names of all files of a run directory. Knows no content."""

from __future__ import annotations

HIDDEN = ".batchgen"
DATA = "data"
METADATA = "metadata"
SCORES = "scores"
SUCCESS = "_SUCCESS"
CARD = "README.md"
CROISSANT = "croissant.json"


def plan_directory(plan: str) -> str:
    return f"{HIDDEN}/plan/{plan}"


def plan_json(generation: int) -> str:
    return f"{HIDDEN}/plan-{generation:03}.json"


def shard_name(number: int) -> str:
    return f"shard-{number:06}"


def number_in(name: str) -> int | None:
    """123 for 'shard-000123', None for any other name."""
    digits = name.removeprefix("shard-")
    return int(digits) if digits.isdecimal() and shard_name(int(digits)) == name else None


def data_path(shard: int) -> str:
    return f"{DATA}/{shard_name(shard)}.parquet"


def shard_number(path: str) -> int | None:
    """123 for 'data/shard-000123.parquet', None for any other path."""
    name = path.removeprefix(f"{DATA}/").removesuffix(".parquet")
    number = number_in(name)
    return number if number is not None and data_path(number) == path else None
