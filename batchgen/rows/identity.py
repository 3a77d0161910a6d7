"""Names for things, from their content: prompt_id, image_id, seed, fingerprint. Pure functions, versioned.

Knows nothing of Ray, files or models. A name depends on what decides the image and on nothing else: not on
paths, the cluster, the order of columns or the time. Changing any rule here means raising VERSION, because
every old run would otherwise be taken for another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from batchgen.columns import NOISES

VERSION = 1

STRIDE = 0x9E3779B1  # odd, so that NOISES samples of a prompt have as many seeds; 2^32 by the golden ratio
# Of the first runs: seeds that fit a float64 exactly.
WIDE_SEED_BITS = 53


# One encoder for all: json.dumps makes a new one for each call, and a plan makes two calls per image.
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. Raises on NaN and foreign types."""
    return _JSON.encode(value).encode("utf-8", "surrogatepass")


def digest(value: Any, size: int = 16) -> str:
    """Hex of `size` bytes of BLAKE2b over the canonical JSON of value."""
    return hashlib.blake2b(canonical(value), digest_size=size).hexdigest()


def content_prompt_id(row: Mapping[str, Any]) -> str:
    """Name of a prompt row without an `id`, from its content. Nulls are left out: an empty column changes nothing."""
    return digest([VERSION, "prompt", {key: value for key, value in row.items() if value is not None}])


def repeated_prompt_id(prompt_id: str, occurrence: int) -> str:
    """Name of the n-th prompt row with the same content, in manifest order: x, x-2, x-3."""
    return prompt_id if occurrence <= 1 else f"{prompt_id}-{occurrence}"


def derive_seed(job_seed: int, prompt_id: str, sample_index: int) -> int:
    """Seed of an image whose row names none. Never depends on the sweep cell: cells are compared on equal noise.

    It has no more bits than torch takes, and those of a prompt's samples all differ. Two prompts share one by chance.
    """
    return (int(digest([VERSION, "seed", job_seed, prompt_id], 4), 16) + sample_index * STRIDE) % NOISES


def derive_wide_seed(job_seed: int, prompt_id: str, sample_index: int) -> int:
    """The same as runs had it before run.rules.SEEDS: of 53 bits, of which torch takes the last 32."""
    return int(digest([VERSION, "seed", job_seed, prompt_id, sample_index], 8), 16) >> (64 - WIDE_SEED_BITS)


def image_id(prompt_id: str, sample_index: int, cell: str, decides: Mapping[str, Any]) -> str:
    """Name of an image row; `decides` holds all parameters of the row that decide its pixels."""
    return digest([VERSION, "image", prompt_id, sample_index, cell, decides])


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Name of a plan: whatever makes two runs the same run."""
    return digest([VERSION, "plan", facts])
