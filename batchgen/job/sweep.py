"""`sweep:` of a job file: what varies, and the cells that come of it, by name and in the order in which they are shown.

Knows ranges and names; which values a row in a cell ends up with, `rows.grid` and `Job.in_cell` say.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from batchgen.columns import OF_CELLS
from batchgen.job.sampling import Layers, Sampler, Schedule, Shift
from batchgen.job.section import Guidance, Section, Share, Side, Steps, Tokens
from batchgen.job.wording import Wording


class Sweep(Section):
    """Axes over settings; every combination is a cell, rendered with the same seeds.

    A cell is named by its values, in the order of these keys: a new one comes last.
    """

    height: list[Side] | None = None
    width: list[Side] | None = None
    num_inference_steps: list[Steps] | None = None
    guidance_scale: list[Guidance] | None = None
    max_sequence_length: list[Tokens] | None = None
    negative_prompt: list[str] | None = None
    skip_layer_guidance_scale: list[Guidance] | None = None
    adapter: list[str] | None = None  # "" is no adapter
    prompt: list[str] | None = None  # a column of the table, or a template: "{prompt}, studio photo"
    sampler: list[Sampler] | None = None
    schedule: list[Schedule] | None = None
    shift: list[Shift] | None = None
    guidance_start: list[Share] | None = None
    guidance_stop: list[Share] | None = None
    negative_prompt_stop: list[Share] | None = None
    skip_guidance_layers: list[Annotated[Layers, Field(min_length=1)]] | None = None
    skip_layer_guidance_start: list[Share] | None = None
    skip_layer_guidance_stop: list[Share] | None = None

    @model_validator(mode="after")
    def check_axes(self) -> Self:
        for name, values in self.axes().items():
            if not values or any(value in values[:at] for at, value in enumerate(values)):
                raise ValueError(f"{name} needs at least one value and none twice.")
        for text in self.prompt or []:
            Wording.of(text)
        return self

    def axes(self) -> dict[str, Any]:
        """What is swept, as it is written."""
        return self.model_dump(exclude_none=True)

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that vary."""
        return tuple(self.axes())

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of them that a run which sweeps them has a column of, as has no other run."""
        return tuple(name for name in OF_CELLS if name in self.keys)

    def values_of(self, name: str) -> list[Any]:
        """All that cells say of one setting."""
        return [values[name] for values in self.by_cell().values() if name in values]

    def by_cell(self) -> dict[str, dict[str, Any]]:
        """Cell name → the settings that it says, in order. Without axes: one cell, 'default'."""
        axes = self.axes()
        combinations = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
        return {cell_name(values): values for values in combinations}


def cell_name(values: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items()) or "default"


def as_column(value: Any) -> Any:
    """A setting of a cell as its column holds it: layers are text."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def from_columns(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The settings that a row's columns of these names hold."""
    found = {name: row[name] for name in names}
    if layers := found.get("skip_guidance_layers"):
        found["skip_guidance_layers"] = [int(layer) for layer in layers.split(",")]
    return found
