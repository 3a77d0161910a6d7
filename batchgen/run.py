"""The run directory: its plans, what is missing, the commit of a shard.

Knows the layout of DESIGN-named files and nothing of Ray, GPUs or how a plan is made. Everything in a run is created
once and never rewritten, but for files that are a pure function of others (card, metadata, _SUCCESS).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen import shard as shard_file
from batchgen.errors import Infrastructure, OtherPlan, Refused, RunMismatch
from batchgen.storage import Store

HIDDEN = ".batchgen"
DATA = "data"
METADATA = "metadata"
SUCCESS = "_SUCCESS"
CARD = "README.md"
OURS = {HIDDEN, DATA, METADATA, SUCCESS, CARD}
LAYOUT_VERSION = 1


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A file of a plan, below the plan's own directory."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One generation: the immutable table of image rows and their shards, as .batchgen/plan-000.json says it.

    facts: what the fingerprint is made of, by name. job: the job file, for people. model: fields of ModelSpec.
    index: the file with one row per shard. skipped: rows that will never be rendered, with their reasons.
    """

    layout: int = LAYOUT_VERSION
    generation: int
    plan: str
    fingerprint: str
    facts: dict[str, Any]
    job: dict[str, Any]
    model: dict[str, Any]
    batchgen: str
    images: int
    skipped_images: int
    shards: int
    first_shard: int
    files: list[PlanFile]
    index: PlanFile
    skipped: PlanFile | None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Plan:
        values = json.loads(data)
        if values.get("layout") != LAYOUT_VERSION:
            raise Refused(
                f"The run was made by batchgen {values.get('batchgen')}, whose layout this version cannot read."
            )
        values = {field.name: values[field.name] for field in fields(cls)}
        values["files"] = [PlanFile(**file) for file in values["files"]]
        values["index"] = PlanFile(**values["index"])
        values["skipped"] = values["skipped"] and PlanFile(**values["skipped"])
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
        }


def plan_directory(plan: str) -> str:
    return f"{HIDDEN}/plan/{plan}"


def plan_json(generation: int) -> str:
    return f"{HIDDEN}/plan-{generation:03}.json"


def data_path(shard: int) -> str:
    return f"{DATA}/shard-{shard:06}.parquet"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Run:
    """An output directory with at least one plan."""

    def __init__(self, store: Store, plans: list[Plan]) -> None:
        self.store = store
        self.plans = plans

    @classmethod
    def find(cls, store: Store) -> Run | None:
        """The run that lies in store; None where there is none yet."""
        plans: list[Plan] = []
        while True:
            try:
                data = store.read(plan_json(len(plans)))
            except FileNotFoundError:
                return cls(store, plans) if plans else None
            plans.append(Plan.from_json(data))

    @classmethod
    def open(cls, store: Store) -> Run:
        run = cls.find(store)
        if run is None:
            raise Refused(f"{store}: holds no batchgen run (no {plan_json(0)}). Check the path.")
        return run

    def check(self, facts: Mapping[str, Any], fingerprint: str) -> None:
        """Raises RunMismatch, naming the keys that differ, unless a generation has this fingerprint."""
        if any(plan.fingerprint == fingerprint for plan in self.plans):
            return
        there = self.plans[-1].facts
        names = [name for name in sorted({*there, *facts}) if there.get(name) != facts.get(name)]
        lines = [f"  {name}: there {_short(there.get(name))}, now {_short(facts.get(name))}" for name in names]
        raise RunMismatch(
            f"{self.store}: another plan owns this directory. What differs:\n"
            + "\n".join(lines)
            + "\nSet output.path to a new directory for the new job, or undo the change to continue this run."
        )

    def index(self, plan: Plan) -> pa.Table:
        """One row per shard of the plan: schema.SHARD_FIELDS."""
        return pq.read_table(pa.BufferReader(self._checked(plan, plan.index)))

    def rows(self, plan: Plan, file: str, row_group: int) -> pa.Table:
        """The plan rows of one shard."""
        with self.store.open_file(f"{plan.directory}/{file}") as opened:
            return pq.ParquetFile(opened, page_checksum_verification=True).read_row_group(row_group)

    def skipped(self, plan: Plan) -> pa.Table | None:
        """Image rows that were never to be rendered, with skip_code and skip_message."""
        if plan.skipped is None:
            return None
        return pq.read_table(pa.BufferReader(self._checked(plan, plan.skipped)))

    def committed(self) -> set[int]:
        """Numbers of the shards that lie in data/. Lists once, opens nothing."""
        names = (entry.path.rpartition("/")[2] for entry in self.store.list(DATA))
        return {number for name in names if (number := shard_number(name)) is not None}

    def _checked(self, plan: Plan, file: PlanFile) -> bytes:
        data = self.store.read(f"{plan.directory}/{file.path}")
        if digest(data) != file.sha256:
            raise Infrastructure(
                f"{self.store}/{plan.directory}/{file.path}: is damaged (its sha256 is not the plan's)."
            )
        return data


def shard_number(name: str) -> int | None:
    """123 for 'shard-000123.parquet', None for any other name."""
    stem = name.removeprefix("shard-").removesuffix(".parquet")
    number = int(stem) if stem.isdecimal() else None
    return number if number is not None and data_path(number) == f"{DATA}/{name}" else None


def refuse_foreign(store: Store) -> None:
    """Raises Refused unless store is empty or holds nothing but a run. Call before the first write."""
    foreign = sorted({entry.path.split("/")[0] for entry in store.list("")} - OURS)
    if foreign:
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise Refused(f"output.path {store}: is not empty and not a batchgen run ({shown}). Name a new directory.")


def publish(store: Store, plan: Plan) -> Plan:
    """Make a plan THE plan of its generation; where another planner was first, return that one's plan."""
    path = plan_json(plan.generation)
    if store.create(path, plan.to_json()):
        return plan
    return Plan.from_json(store.read(path))


def commit(store: Store, data: bytes, footer: shard_file.Footer) -> Literal["committed", "already"]:
    """Store a finished shard, once. 'already': somebody else's commit of the same plan was there first.

    A refusal is looked at before it is believed: after a lost acknowledgement the object that is in the way is our own.
    Raises OtherPlan where another plan owns the name, Infrastructure where the store gives up.
    """
    path = data_path(footer.shard)
    if store.create(path, data):
        return "committed"
    try:
        with store.open_file(path) as file:
            theirs = shard_file.read_footer(file)
    except (ValueError, pa.ArrowInvalid) as error:
        raise OtherPlan(f"{store}/{path}: is in the way and is no shard of ours ({error}). Move it away.") from error
    if theirs.attempt_id == footer.attempt_id:
        return "committed"
    if theirs.plan == footer.plan:
        return "already"
    raise OtherPlan(
        f"{store}/{path}: belongs to plan {theirs.plan}, ours is {footer.plan}. Two jobs share a directory."
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
