"""`sweep:` of a job file: what varies, and the cells that come of it, by name and in the order in which they are shown.

Knows ranges and names; which values a row in a cell ends up with, `rows.grid` and `Job.in_cell` say.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from batchgen.columns import OF_CELLS
from batchgen.job.reuse import Reuse
from batchgen.job.sampling import Layers, Sampler, Schedule, Shift
from batchgen.job.section import Guidance, Section, Share, Side, Steps, Tokens
from batchgen.job.wording import Wording

SomeLayers = Annotated[Layers, Field(min_length=1)]
CellName = Annotated[str, Field(min_length=1, max_length=100)]


class Axes(Section):
    """Values of settings that vary. A cell is named by its values in the order of these keys: a new one comes last."""

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
    skip_guidance_layers: list[SomeLayers] | None = None
    skip_layer_guidance_start: list[Share] | None = None
    skip_layer_guidance_stop: list[Share] | None = None
    refine: list[bool] | None = None  # whether there is the second pass that `refine:` says
    reuse: list[Reuse] | None = None  # {} is none

    def lists(self) -> dict[str, list[Any]]:
        """What varies, by setting."""
        found = ((name, getattr(self, name)) for name in Axes.model_fields)
        return {name: values for name, values in found if values is not None}


class CellSettings(Section):
    """What a cell says that has a name of its own; the same keys, one value each."""

    height: Side | None = None
    width: Side | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    max_sequence_length: Tokens | None = None
    negative_prompt: str | None = None
    skip_layer_guidance_scale: Guidance | None = None
    adapter: str | None = None
    prompt: str | None = None
    sampler: Sampler | None = None
    schedule: Schedule | None = None
    shift: Shift | None = None
    guidance_start: Share | None = None
    guidance_stop: Share | None = None
    negative_prompt_stop: Share | None = None
    skip_guidance_layers: SomeLayers | None = None
    skip_layer_guidance_start: Share | None = None
    skip_layer_guidance_stop: Share | None = None
    refine: bool | None = None
    reuse: Reuse | None = None

    def said(self) -> dict[str, Any]:
        """What it says, by setting."""
        found = ((name, getattr(self, name)) for name in CellSettings.model_fields)
        return {name: value for name, value in found if value is not None}


class Sweep(Axes):
    """Every combination of the axes is a cell, rendered with the same seeds.

    zip: lists of one length, whose first values belong together, and so on. cells: named ones instead of combinations.
    """

    zip: Axes | None = None
    cells: dict[CellName, CellSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def check_axes(self) -> Self:
        crossed, paired = self.lists(), self.paired()
        for name, values in [*crossed.items(), *paired.items()]:
            if not values:
                raise ValueError(f"{name} needs at least one value.")
            if name in crossed and (twice := [value for at, value in enumerate(values) if value in values[:at]]):
                raise ValueError(f"{name} has {shown(twice[0])!r} twice: keep one.")
        if self.cells and (crossed or paired):
            raise ValueError(f"cells says all that varies: say {', '.join([*crossed, *paired])} in each of them.")
        if both := [name for name in paired if name in crossed]:
            raise ValueError(f"{', '.join(both)} stands in zip too: keep one.")
        if len({len(values) for values in paired.values()}) > 1:
            counts = ", ".join(f"{name} has {len(values)}" for name, values in paired.items())
            raise ValueError(f"zip takes lists of one length: {counts}.")
        if _repeats([cell.said() for cell in self.cells.values()] or [*zip(*paired.values(), strict=True)]):
            raise ValueError("two cells say the same: leave one out.")
        for text in self.values_of("prompt"):
            Wording.of(text)
        return self

    def paired(self) -> dict[str, list[Any]]:
        """What varies together, by setting."""
        return self.zip.lists() if self.zip else {}

    def axes(self) -> dict[str, Any]:
        """What is swept, as it is written."""
        return {name: said for name, said in self.model_dump(exclude_none=True).items() if said or name != "cells"}

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that vary."""
        return tuple(name for name in Axes.model_fields if self.values_of(name))

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of them that a run which sweeps them has a column of, as has no other run."""
        return tuple(name for name in OF_CELLS if name in self.keys)

    def values_of(self, name: str) -> list[Any]:
        """All that cells say of one setting, each once."""
        named = [value for cell in self.cells.values() if (value := getattr(cell, name)) is not None]
        said = [*self.lists().get(name, []), *self.paired().get(name, []), *named]
        return [value for at, value in enumerate(said) if value not in said[:at]]

    def by_cell(self) -> dict[str, dict[str, Any]]:
        """Cell name → the settings that it says, in order. Without axes: one cell, 'default'."""
        if self.cells:
            return {name: cell.said() for name, cell in self.cells.items()}
        crossed, paired = self.lists(), self.paired()
        pairs = [dict(zip(paired, values, strict=True)) for values in zip(*paired.values(), strict=True)]
        combinations = (
            dict(zip(crossed, values, strict=True)) | pair
            for values in itertools.product(*crossed.values())
            for pair in pairs or [{}]
        )
        ordered = ({name: said[name] for name in Axes.model_fields if name in said} for said in combinations)
        return {cell_name(values): values for values in ordered}


def _repeats(values: Sequence[Any]) -> bool:
    return any(value in values[:at] for at, value in enumerate(values))


def cell_name(values: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={shown(value)}" for key, value in values.items()) or "default"


def shown(value: Any) -> str:
    """A setting in a name."""
    return str(value) if not isinstance(value, bool) else "on" if value else "off"


def as_column(value: Any) -> Any:
    """A setting of a cell as its column holds it: layers are text, and so is what is reused."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, Reuse) else value


def from_columns(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The settings that a row's columns of these names hold."""
    found = {name: row[name] for name in names}
    if layers := found.get("skip_guidance_layers"):
        found["skip_guidance_layers"] = [int(layer) for layer in layers.split(",")]
    if "reuse" in found:
        found["reuse"] = Reuse.of(found["reuse"])
    return found
