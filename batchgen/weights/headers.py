"""The header of a safetensors file: names, dtypes and shapes of its tensors, read without the tensors.

The format: 8 bytes, little-endian, the length of a JSON header; its data_offsets count from the header's end. Knows
nothing of models: what the names mean, `tensor_names` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import Refused
from batchgen.job import TEXT_ENCODERS

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


Shape = tuple[int, ...]


def shapes_in(folder: Path) -> Shapes:
    shapes: dict[str, Shape] = {}
    for file in sorted(folder.glob("*.safetensors")):
        shapes |= read_shapes(file)
    return shapes


def read_shapes(file: Path) -> Shapes:
    try:
        return {name: tensor.shape for name, tensor in read(file).items()}
    except ValueError as error:
        raise Refused(f"{file} {error}") from None


Shapes = Mapping[str, tuple[int, ...]]


def of_directory(directory: Path) -> dict[str, Shapes] | None:
    """All components that a diffusers directory has weights of; None where they are not on this machine's disk."""
    found: dict[str, Shapes] = {}
    for component in ("transformer", "vae", *TEXT_ENCODERS):
        shapes: dict[str, tuple[int, ...]] = {}
        for file in sorted((directory / component).glob("*.safetensors")):
            if "fp16" not in file.name and "fp8" not in file.name:
                shapes |= {name: tensor.shape for name, tensor in read(file).items()}
        if shapes:
            if "shared.weight" in shapes:
                shapes.pop("encoder.embed_tokens.weight", None)  # T5's one embedding under its second name
            found[component] = shapes
    return found if "transformer" in found else None
