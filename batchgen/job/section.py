"""What all sections of a job file share: they are frozen, refuse unknown keys, and share a few ranges of numbers.

Knows no section.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from batchgen.columns import MAX_GUIDANCE, MAX_SEED, MAX_STEPS, MAX_T5_TOKENS, NOISES


def too_large_seed(seed: int) -> str:
    """What to say of one beyond MAX_SEED, which another program may have drawn."""
    same = f", such as {seed % NOISES}, which draws the same noise (torch takes 32 bits of a seed)"
    return f"is {seed}: write integers from 0 to {MAX_SEED}" + (same if seed < 2**64 else "")


def _seed(value: object) -> object:
    if isinstance(value, int) and value > MAX_SEED:
        raise ValueError(too_large_seed(value))
    return value


Seed = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_seed)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=MAX_GUIDANCE, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=16, le=16_384)]
Tokens = Annotated[int, Field(ge=1, le=MAX_T5_TOKENS)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
