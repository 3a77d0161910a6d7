"""`sampling.reuse` of a job file: steps that do not compute everything anew, and the text by which a sweep names them.

A schedule by step alone, so that an image depends on its row and on nothing that was measured on the way. Which steps
it means `job.steps` says, what is reused `engines.sd3.reuse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_serializer, model_validator

from batchgen.job.section import Section, Share

Every = Annotated[int, Field(ge=1, le=20)]
NOTHING = "none"  # the text of what reuses nothing


class Reuse(Section):
    """What of a step the steps after it may use again. Without a key: nothing.

    blocks_every: the transformer's blocks are computed in every such step, and what they added is added again in those
    between. guidance_every: of the steps that compute blocks, every such one computes the negative half, and the others
    take the last difference of the two halves. start, stop: both only in steps n × start to before n × stop.
    """

    blocks_every: Every = 1
    guidance_every: Every = 1
    start: Share = 0.2  # retention_ratio of diffusers 0.42.1's MagCacheConfig: the first fifth decides the composition
    stop: Share = 1.0

    @model_validator(mode="after")
    def check_it_reuses(self) -> Self:
        if self.start > self.stop:
            raise ValueError("start is larger than stop.")
        if not self.is_on and self.what_is_said():
            raise ValueError("start and stop change nothing alone: write blocks_every: 2 or guidance_every: 2 too.")
        return self

    @property
    def is_on(self) -> bool:
        """Whether anything is reused, in enough steps."""
        return self.blocks_every > 1 or self.guidance_every > 1

    @model_serializer
    def what_is_said(self) -> dict[str, Any]:
        """Without what is at its default, so that a key which comes later changes no run that does not say it."""
        values = {name: getattr(self, name) for name in Reuse.model_fields}
        return {name: value for name, value in values.items() if value != Reuse.model_fields[name].default}

    def __str__(self) -> str:
        """In names, bucket keys and the column of a sweep: blocks_every:2,start:0.3."""
        return ",".join(f"{name}:{value!r}" for name, value in self.what_is_said().items()) or NOTHING

    @classmethod
    def of(cls, said: str | Mapping[str, Any] | Reuse) -> Reuse:
        """From its text, or from what a run has stored."""
        if not isinstance(said, str):
            return cls.model_validate(said)
        return cls.model_validate(dict(pair.split(":") for pair in said.split(",")) if said != NOTHING else {})
