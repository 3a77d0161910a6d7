"""The run directory: its plans, what is missing, the commit of a shard.

Knows the names of files and nothing of Ray, GPUs or how a plan is made. Everything in a run is created
once and never rewritten, but for files that are a pure function of others (card, metadata, _SUCCESS).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen import shard as shard_file
from batchgen.config import LOOP
from batchgen.errors import Infrastructure, OtherPlan, Refused, RunMismatch
from batchgen.models.renderer import ModelSpec
from batchgen.storage import Store

HIDDEN = ".batchgen"
DATA = "data"
METADATA = "metadata"
SUCCESS = "_SUCCESS"
CARD = "README.md"
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

    def model_spec(self, model: dict[str, Any] | None = None) -> ModelSpec:
        """What a renderer is built from. model: where the weights are now, if not where the planner saw them."""
        return ModelSpec.from_plan(model or self.model, self.job)

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
        while (plan := _read_plan(store, len(plans))) is not None:
            plans.append(plan)
        return cls(store, plans) if plans else None

    @classmethod
    def open(cls, store: Store) -> Run:
        run = cls.find(store)
        if run is None:
            raise Refused(f"{store}: holds no batchgen run (no {plan_json(0)}). Check the path.")
        return run

    @property
    def planned(self) -> int:
        """Image rows of all plans, those that are skipped included, each once."""
        return sum(plan.images + plan.skipped_images for plan in self.plans) - self.replacements

    @property
    def replacements(self) -> int:
        """How many rows have failed in one generation and stand in a later one again."""
        return sum(plan.replaced.rows for plan in self.plans if plan.replaced)

    @property
    def elsewhere(self) -> str:
        """What to type for another run beside this one."""
        return f"--set output.path={self.store}-2"

    @property
    def next_shard(self) -> int:
        return sum(plan.shards for plan in self.plans)

    def replaced_after(self, plan: Plan) -> set[str]:
        """image_ids whose place is in a later generation than this one."""
        found: set[str] = set()
        for later in self.plans[plan.generation + 1 :]:
            if later.replaced:
                table = pq.read_table(pa.BufferReader(self._checked(later, later.replaced)))
                found.update(table["image_id"].to_pylist())
        return found

    def holds(self, fingerprint: str) -> bool:
        """Whether a generation was planned for a job with this fingerprint."""
        return any(plan.fingerprint == fingerprint for plan in self.plans)

    def check(self, facts: Mapping[str, Any], fingerprint: str, *, extend: bool = False) -> None:
        """Raises RunMismatch, naming the keys that differ, unless a generation has this fingerprint.

        extend: what an extension may change may differ.
        """
        if self.holds(fingerprint):
            return
        there = self.plans[-1].facts
        names = [name for name in sorted({*there, *facts}) if there.get(name) != facts.get(name)]
        if extend and may_extend(names):
            return
        lines = [f"  {name}: there {_short(there.get(name))}, now {_short(facts.get(name))}" for name in names]
        more = "\nIf the job only adds rows, samples or cells: --extend" if may_extend(names) else ""
        raise RunMismatch(
            f"{self.store}: another plan owns this directory. What differs:\n"
            + "\n".join(lines)
            + f"\nUndo the change to continue this run, or begin another beside it: {self.elsewhere}{more}"
        )

    def index(self, plan: Plan) -> pa.Table:
        """One row per shard of the plan: schema.SHARD_FIELDS."""
        return pq.read_table(pa.BufferReader(self._checked(plan, plan.index)))

    def rows(self, plan: Plan, file: str, row_group: int) -> pa.Table:
        """The plan rows of one shard."""
        path = f"{plan.directory}/{file}"
        try:
            with self.store.open_file(path) as opened:
                return pq.ParquetFile(opened, page_checksum_verification=True).read_row_group(row_group)
        except (OSError, pa.ArrowInvalid) as error:
            raise _lost(self.store, path, str(error)) from error

    def planned_ids(self, plan: Plan) -> Iterator[pa.Table]:
        """image_id and skip_code of every row of the plan, a table for each of its files."""
        for path in (f"{plan.directory}/{file.path}" for file in [*plan.files, *plan.skipped]):
            try:
                with self.store.open_file(path) as opened:
                    yield pq.read_table(opened, columns=["image_id", "skip_code"], page_checksum_verification=True)
            except (OSError, pa.ArrowInvalid) as error:
                raise _lost(self.store, path, str(error)) from error

    def plan_schema(self) -> pa.Schema | None:
        """The columns of the plan's rows, the user's own included; None for a run without rows."""
        for plan in self.plans:
            for file in [*plan.files, *plan.skipped]:
                with self.store.open_file(f"{plan.directory}/{file.path}") as opened:
                    return pq.read_schema(opened)
        return None

    def skipped(self, plan: Plan) -> Iterator[pa.Table]:
        """Image rows that were never to be rendered, with skip_code and skip_message."""
        for file in plan.skipped:
            yield pq.read_table(pa.BufferReader(self._checked(plan, file)))

    def committed(self) -> set[int]:
        """Numbers of the shards that lie in data/. Lists once, opens nothing."""
        entries = self.store.list(DATA, recursive=False)
        return {number for entry in entries if (number := shard_number(entry.path)) is not None}

    def _checked(self, plan: Plan, file: PlanFile) -> bytes:
        path = f"{plan.directory}/{file.path}"
        try:
            data = self.store.read(path)
        except FileNotFoundError as error:
            raise _lost(self.store, path, "it is missing") from error
        if digest(data) != file.sha256:
            raise _lost(self.store, path, "its sha256 is not the plan's")
        return data


def _read_plan(store: Store, generation: int) -> Plan | None:
    path = plan_json(generation)
    try:
        return Plan.from_json(store.read(path))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise _lost(store, path, str(error)) from error


def _lost(store: Store, path: str, why: str) -> Infrastructure:
    return Infrastructure(
        f"{store}/{path}: cannot be used ({why}). It belongs to the plan, without which this run cannot be continued "
        "or proven: restore it from a copy, or start again in a new directory. The pictures in data/ are untouched."
    )


def shard_number(path: str) -> int | None:
    """123 for 'data/shard-000123.parquet', None for any other path."""
    stem = path.removeprefix(f"{DATA}/shard-").removesuffix(".parquet")
    number = int(stem) if stem.isdecimal() else None
    return number if number is not None and data_path(number) == path else None


def refuse_foreign(store: Store) -> None:
    """Raises Refused unless a new run may begin in store: it is empty, or holds what unfinished planners left."""
    foreign = sorted({entry.path.split("/")[0] for entry in store.list("")} - {HIDDEN})
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
    theirs = owned_footer(store, footer.shard, footer.plan)
    return "committed" if theirs.attempt_id == footer.attempt_id else "already"


def owned_footer(store: Store, shard: int, plan: str) -> shard_file.Footer:
    """The footer of a data file that must be of this plan. Raises OtherPlan where it is not."""
    path = data_path(shard)
    try:
        with store.open_file(path) as file:
            footer = shard_file.read_footer(file)
    except (ValueError, OSError, pa.ArrowInvalid) as error:
        raise OtherPlan(
            f"{store}/{path}: is in the way and is no shard of ours ({error}). Move it out of {DATA}/."
        ) from error
    if footer.plan != plan:
        raise OtherPlan(f"{store}/{path}: belongs to plan {footer.plan}, ours is {plan}. Two jobs share a directory.")
    return footer


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
