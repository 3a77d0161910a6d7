"""The plans of a run, as .batchgen/plan-000.json says them, and what of a job makes two runs the same run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import Refused
from batchgen.job import LOOP
from batchgen.run.layout import plan_directory

LAYOUT_VERSION = 3
EXTENSIBLE = ("input (", "sampling.", "sweep.")  # facts, by how their names begin
MODEL_FACTS = {f"sampling.{name}" for name in LOOP}  # all generations are rendered in one way


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A file that is named with its digest. path: below the plan's own directory; of metadata, below the run's."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One generation: the immutable table of image rows and their shards, as .batchgen/plan-000.json says it.

    facts: what the fingerprint is made of, by name. job: the job file. model: what was found where it
    says that the model is, as ModelSpec.from_plan takes it.
    index: the file with one row per shard. skipped: files of rows that will never be rendered, with their reasons.
    replaced: image_ids of earlier generations, all failed there, whose place is now in this one.
    """

    layout: int = LAYOUT_VERSION
    generation: int
    kind: Literal["first", "extension", "retry"] = "first"
    plan: str
    fingerprint: str
    facts: dict[str, Any]
    job: dict[str, Any]
    model: dict[str, Any]
    batchgen: str
    images: int
    skipped_images: int
    shards: int
    files: list[PlanFile]
    index: PlanFile
    skipped: list[PlanFile]
    replaced: PlanFile | None = None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Plan:
        """Raises ValueError where it is no JSON, Refused where another version wrote it."""
        values = json.loads(data)
        if values.get("layout") != LAYOUT_VERSION:
            raise Refused(
                f"The run was made by batchgen {values.get('batchgen')}, whose layout this version cannot read."
            )
        values = {field.name: values[field.name] for field in fields(cls)}
        values["replaced"] = PlanFile(**values["replaced"]) if values["replaced"] else None
        values["files"] = [PlanFile(**file) for file in values["files"]]
        values["index"] = PlanFile(**values["index"])
        values["skipped"] = [PlanFile(**file) for file in values["skipped"]]
        return cls(**values)

    @property
    def directory(self) -> str:
        return plan_directory(self.plan)

    def constants(self) -> dict[str, Any]:
        """What every image of this plan shares: those of schema.CONSTANT_FIELDS that are known before rendering."""
        return {
            "fingerprint": self.fingerprint,
            "plan": self.plan,
            "model": self.model["path"],
            "revision": self.model["revision"],
            "model_digest": self.model["digest"],
            "dtype": self.model["dtype"],
            "settings": settings(self.job, self.model),
        }


def settings(job: dict[str, Any], model: dict[str, Any]) -> str:
    """JSON of what a job says of its model, with the adapters that were found, of the loop and of a second pass."""
    said = {
        "model": job["model"] | {"adapters": model["adapters"], "refiner": model["refiner"]},
        "sampling": {name: job["sampling"][name] for name in LOOP},
        "refine": job["refine"],
    }
    if pipeline := model.get("pipeline"):  # of `engine: diffusers`: which class rendered
        said["pipeline"] = pipeline
    return json.dumps(said, sort_keys=True)


def are_among(image_ids: set[str], rows: pa.Table) -> pa.ChunkedArray:
    """For each row whether it is one of these."""
    return pc.is_in(rows["image_id"], pa.array(sorted(image_ids), pa.string()))


def may_extend(names: list[str]) -> bool:
    """Whether an extension may differ in these facts. Whether it adds and nothing else, its image_ids must show."""
    return all(name.startswith(EXTENSIBLE) and name not in MODEL_FACTS for name in names)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
