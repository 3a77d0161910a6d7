"""What all sections of a job file share: they are frozen, refuse unknown keys, and draw numbers from few ranges.

Knows no section. Ranges with a source in a library name it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_SEED = 2**63 - 1  # what an int64 column holds; torch.Generator takes more
MAX_STEPS = 200
MAX_GUIDANCE = 50.0
MAX_IMAGES_PER_PROMPT = 10_000
MAX_T5_TOKENS = 512  # StableDiffusion3Pipeline.check_inputs, diffusers 0.42.1

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=MAX_GUIDANCE, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=16, le=16_384)]
Tokens = Annotated[int, Field(ge=1, le=MAX_T5_TOKENS)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
