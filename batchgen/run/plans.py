"""The plans of a run, one for each generation, as .batchgen/plan-000.json and its followers say them.

Knows what a plan holds; not how one is made, nor how its rows are rendered.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.errors import Refused
from batchgen.job import LOOP, Job
from batchgen.job.stored import stored_job
from batchgen.run.damage import found_damaged
from batchgen.run.facts import Facts
from batchgen.run.found_model import FoundModel
from batchgen.run.layout import plan_directory
from batchgen.run.sealed import unseal

LAYOUT_VERSION = 3
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A file that is named with its digest. path: below the plan's own directory; of metadata, below the run's."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One generation: the immutable table of image rows and their shards.

    facts: what the fingerprint is taken over. stored: the job file, as it was when the plan was made. model: what was
    found where the job says that the model is. index: the file with one row per shard. skipped: files of rows that will
    never be rendered, with their reasons. replaced: image_ids of earlier generations, all failed there, whose place is
    now in this one.
    """

    layout: int = LAYOUT_VERSION
    generation: int
    kind: Literal["first", "extension", "retry"] = "first"
    plan: str
    fingerprint: str
    facts: Facts
    stored: dict[str, Any]
    model: FoundModel
    batchgen: str
    images: int
    skipped_images: int
    shards: int
    files: list[PlanFile]
    index: PlanFile
    skipped: list[PlanFile]
    replaced: PlanFile | None = None

    @cached_property
    def job(self) -> Job:
        """The stored job, read without today's refusals."""
        return stored_job(self.stored)

    def to_json(self) -> bytes:
        """Without a seal, which publishing adds."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"facts": self.facts.to_dict(), "model": self.model.to_dict()}
        said = {"job" if name == "stored" else name: value for name, value in values.items()}
        return json.dumps(said, indent=1, ensure_ascii=False, default=asdict).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Plan:
        """Raises ValueError where it is not as it was published, Refused where another version wrote it."""
        with found_damaged():
            return cls._from_json(data)

    @classmethod
    def _from_json(cls, data: bytes) -> Plan:
        said = json.loads(unseal(data, unsealed="layout"))
        if said.get("layout") != LAYOUT_VERSION:
            raise Refused(
                f"The run was made by batchgen {said.get('batchgen')}, whose layout this version cannot read."
            )
        values = {field.name: said["job" if field.name == "stored" else field.name] for field in fields(cls)}
        values |= {"facts": Facts.from_dict(values["facts"]), "model": FoundModel.from_dict(values["model"])}
        values |= {name: [PlanFile(**file) for file in values[name]] for name in ("files", "skipped")}
        values["index"] = PlanFile(**values["index"])
        values["replaced"] = PlanFile(**values["replaced"]) if values["replaced"] else None
        plan = cls(**values)
        plan._check()
        return plan

    def _check(self) -> None:
        """Raises ValueError where a value is not of its type: a plan without a seal may hold anything."""
        named = self.named_files
        numbers = [self.generation, self.images, self.skipped_images, self.shards, *(file.rows for file in named)]
        names = [self.plan, *(file.path for file in named)]
        texts = [self.fingerprint, self.batchgen, self.model.path, self.model.digest, *(file.sha256 for file in named)]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("one of its counts is no number")
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise ValueError("one of its files has a name that no plan gives")
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.stored, dict):
            raise ValueError("one of its values is of another type")

    @property
    def named_files(self) -> list[PlanFile]:
        """All files of the plan, with their digests."""
        return [*self.files, self.index, *self.skipped, *([self.replaced] if self.replaced else [])]

    @property
    def directory(self) -> str:
        return plan_directory(self.plan)

    def constants(self) -> dict[str, Any]:
        """What every image of this plan shares: those of schema.CONSTANT_FIELDS that are known before rendering."""
        return {
            "fingerprint": self.fingerprint,
            "plan": self.plan,
            "model": self.model.path,
            "revision": self.model.revision,
            "model_digest": self.model.digest,
            "dtype": self.model.dtype,
            "settings": settings(self.stored, self.model),
        }


def settings(stored: dict[str, Any], model: FoundModel) -> str:
    """JSON of what a job says of its model, with the adapters that were found, of the loop and of a second pass."""
    found = model.to_dict()
    refiner = found["refiner"] and {name: value for name, value in found["refiner"].items() if name != "licence"}
    said = {
        "model": stored["model"] | {"adapters": found["adapters"], "refiner": refiner},
        "sampling": {name: stored["sampling"][name] for name in LOOP if name in stored["sampling"]},
        "refine": stored["refine"],
    }
    if swept := stored_job(stored).sweep.columns:  # then the columns of a row say it
        said["swept"] = [*swept]
    if model.pipeline:  # of `engine: diffusers`: which class rendered
        said["pipeline"] = model.pipeline
    return json.dumps(said, sort_keys=True)


def are_among(image_ids: set[str], rows: pa.Table) -> pa.ChunkedArray:
    """For each row whether it is one of these."""
    return pc.is_in(rows["image_id"], pa.array(sorted(image_ids), pa.string()))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def to_parquet(table: pa.Table) -> bytes:
    """A table of a plan or of the metadata as the bytes of a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())
