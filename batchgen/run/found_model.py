"""The model of a job as it was found: where its files lie and what they are. Data only.

One record from the planner, who finds it, through the plan, which keeps it, to the renderer, who loads it. Knows
neither how files are found nor what they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFile:
    """A LoRA. path: a local file, or its URL. sha256: of the file that the planner saw."""

    path: str
    sha256: str
    scale: float


@dataclass(frozen=True, slots=True)
class FoundModel:
    """path: a local directory or file, a URL, or a hub id together with `revision` (a commit).

    digest: sha256 over the names and sha256 of the files that make up the pipeline. tokenizers: the directory that
    holds them on the planner's machine; a plan does not keep it. dtype: for people. adapters: LoRAs by alias.
    files: sha256 of each single file, by the setting that names it. places: settings that only say where files lie
    (weights.spec.PLACES), as the job that renders now has them. refiner: the checkpoint of the second pass, where it
    has one of its own. pipeline: the class of diffusers that renders, with `engine: diffusers`. licence: id, name and
    link, as weights.licence found them; None in plans that were made before they said it. unseen: why the weights
    were not looked at; the digest is then none that a run could have. left_out: tensors of single files that are not
    read though they could be. A plan keeps neither.
    """

    path: str
    revision: str | None
    digest: str
    tokenizers: Path = field(default=Path(), compare=False)
    dtype: str = ""
    adapters: Mapping[str, AdapterFile] = field(default_factory=dict)
    places: Mapping[str, Any] = field(default_factory=dict)
    refiner: FoundModel | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    pipeline: str | None = None
    licence: Mapping[str, str] | None = field(default=None, compare=False)
    unseen: str = ""
    left_out: tuple[str, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As a plan keeps it, in JSON's types."""
        refiner = self.refiner
        of_refiner = refiner and {
            "path": refiner.path, "revision": refiner.revision, "digest": refiner.digest, **refiner._licensed()
        }  # fmt: skip
        return {
            "path": self.path,
            "revision": self.revision,
            "digest": self.digest,
            "dtype": self.dtype,
            "adapters": {alias: asdict(adapter) for alias, adapter in self.adapters.items()},
            "places": dict(self.places),
            "refiner": of_refiner,
            "files": dict(self.files),
            "pipeline": self.pipeline,
            **self._licensed(),
        }

    def _licensed(self) -> dict[str, Any]:
        """Left out where nothing is known: an earlier version's plan stays as it is."""
        return {} if self.licence is None else {"licence": dict(self.licence)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What to_dict() gave, in this version or another: what is missing is at its default."""
        adapters = values.get("adapters") or {}
        known = {name: values[name] for name in ("dtype", "places", "files", "pipeline", "licence") if name in values}
        return cls(
            values["path"],
            values["revision"],
            values["digest"],
            adapters={alias: AdapterFile(**_known(AdapterFile, adapter)) for alias, adapter in adapters.items()},
            refiner=cls.from_dict(values["refiner"]) if values.get("refiner") else None,
            **known,
        )


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in kind.__dataclass_fields__}
