"""The header of a safetensors file: names, dtypes and shapes of its tensors, read without the tensors.

The format: 8 bytes, little-endian, the length of a JSON header; its data_offsets count from the header's end. Knows
nothing of models: what the names mean is layouts.py's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_HEADER = 100_000_000  # bytes; the limit of safetensors itself
UNREADABLE = "is no safetensors file: download it again."


@dataclass(frozen=True, slots=True)
class Tensor:
    dtype: str  # as the format names it: 'BF16', 'F8_E4M3'
    shape: tuple[int, ...]


def broken(file: Path) -> str:
    """What is wrong with a file: a web page saved as weights, a download that ended early. Nothing if it is sound."""
    try:
        read(file)
    except ValueError as error:
        return str(error)
    return ""


def read(file: Path) -> Mapping[str, Tensor]:
    """name → tensor. Raises ValueError, with the end of a sentence that begins with the file's name."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise ValueError(UNREADABLE)
        try:
            said = json.loads(stream.read(length))
            said.pop("__metadata__", None)
            ends = [tensor["data_offsets"][1] for tensor in said.values()]
            missing = 8 + length + max(ends, default=0) - size
            found = {name: Tensor(tensor["dtype"], tuple(tensor["shape"])) for name, tensor in said.items()}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise ValueError(UNREADABLE) from None
    if missing > 0:
        raise ValueError(f"ends {missing:,} bytes early: download it again.")
    return found
