"""The run directory: its plans, the rows of its shards, what is committed, and the commit itself.

Knows the names of files and nothing of Ray, GPUs or how a plan is made. Everything in a run is created
once and never rewritten, but for files that are a pure function of others (card, metadata, _SUCCESS).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.errors import Infrastructure, OtherPlan, Refused, RunMismatch
from batchgen.run import index
from batchgen.run.damage import DAMAGED, found_damaged
from batchgen.run.facts import Facts
from batchgen.run.index import ShardRef
from batchgen.run.layout import DATA, HIDDEN, SUCCESS, data_path, plan_json, shard_number
from batchgen.run.parquet import open_parquet, read_parquet
from batchgen.run.plans import Plan, PlanFile, digest
from batchgen.run.reading import READERS, in_order
from batchgen.run.sealed import seal
from batchgen.run.shard_file import Footer, read_facts, read_footer
from batchgen.run.siblings import names_below
from batchgen.storage.store import Store
from batchgen.words import visible

T = TypeVar("T")


class Run:
    """An output directory with at least one plan."""

    def __init__(self, store: Store, plans: list[Plan]) -> None:
        self.store = store
        self.plans = plans
        self._shards: dict[str, list[ShardRef]] = {}  # of each plan, which never changes

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
            if names := names_below(store):
                each = ", ".join(f"{store}/{name}" for name in names)
                raise Refused(f"{store}: holds a run for each of {len(names)} models. Name one: {each}.")
            raise Refused(f"{store}: holds no batchgen run (no {plan_json(0)}). Check the path.")
        return run

    @classmethod
    def all_at(cls, url: str) -> dict[str, Run]:
        """The runs of a directory by the names of their models; "" where it is the run of one.

        Of models whose run has not begun there is none. Raises Refused where there is no run at all.
        """
        store = Store.open(url)
        found = {name: cls.find(Store.open(f"{store.url}/{name}")) for name in names_below(store)}
        runs = {name: run for name, run in found.items() if run is not None}
        return runs or {"": cls.open(store)}

    @property
    def cells(self) -> list[str]:
        """The cells of its sweep, in the order of the newest job, by which they are shown."""
        return list(dict.fromkeys(cell for plan in reversed(self.plans) for cell in plan.job.sweep.by_cell()))

    @property
    def planned(self) -> int:
        """Image rows of all plans, those that are skipped included, each once."""
        return sum(plan.images + plan.skipped_images for plan in self.plans) - self.replacements

    @property
    def replacements(self) -> int:
        """How many rows have failed in one generation and stand in a later one again."""
        return sum(plan.replaced.rows for plan in self.plans if plan.replaced)

    @property
    def is_adopted(self) -> bool:
        """Whether its images were made elsewhere and brought in."""
        return self.plans[0].facts.adopted is not None

    def refuse_adopted(self, what: str) -> None:
        """Raises Refused where its images cannot be rendered. what: 'extended', for people."""
        if self.is_adopted:
            raise Refused(
                f"{self.store}: holds images that were made elsewhere ({self.plans[0].model.path}) and adopted, so it "
                f"cannot be {what}. It can be opened, scored, compared and exported; render into another directory."
            )

    @property
    def elsewhere(self) -> str:
        """What the user can type to make another run beside this one."""
        return f"--set output.path={self.store}-2"

    @property
    def next_shard(self) -> int:
        return sum(plan.shards for plan in self.plans)

    def replaced_after(self, plan: Plan) -> set[str]:
        """image_ids that were planned again in a later generation."""
        found: set[str] = set()
        for later in self.plans[plan.generation + 1 :]:
            if later.replaced:
                table = read_parquet(self._checked(later, later.replaced))
                found.update(table["image_id"].to_pylist())
        return found

    def holds(self, fingerprint: str) -> bool:
        """Whether a generation was planned for a job with this fingerprint."""
        return any(plan.fingerprint == fingerprint for plan in self.plans)

    def check(self, facts: Facts, fingerprint: str, *, extend: bool = False) -> None:
        """Raises RunMismatch, naming the keys that differ, unless a generation has this fingerprint.

        extend: what an extension may change may differ.
        """
        newest = self.plans[-1].facts
        may_extend = not newest.in_the_way(facts)
        if self.holds(fingerprint) or (extend and may_extend):
            return
        there, now = newest.to_dict(), facts.to_dict()
        lines = [
            f"  {visible(label)}: there {_short(there.get(label))}, now {_short(now.get(label))}"
            for label in (newest.in_the_way(facts) if extend else newest.differing(facts))
        ]
        more = "\nIf the job only adds rows, samples or cells: --extend" if may_extend else ""
        raise RunMismatch(
            f"{self.store}: another plan owns this directory. What differs:\n"
            + "\n".join(lines)
            + f"\nUndo the change to continue this run, or begin another beside it: {self.elsewhere}{more}"
        )

    def shards(self, plan: Plan) -> list[ShardRef]:
        """The shards of a plan, in order of their numbers. Read once."""
        if plan.plan not in self._shards:
            table = read_parquet(self._checked(plan, plan.index))
            self._shards[plan.plan] = index.from_table(table)
        return self._shards[plan.plan]

    def rows(self, plan: Plan, shard: ShardRef) -> pa.Table:
        """The plan rows of one shard."""
        path = f"{plan.directory}/{shard.file}"
        try:
            with found_damaged(), self.store.open_file(path) as opened:
                group = open_parquet(opened).read_row_group(shard.row_group, use_threads=False)
        except DAMAGED as error:
            raise _lost(self.store, path, str(error)) from error
        return _of_shards(group, [shard])

    def rows_of_file(self, plan: Plan, shards: Sequence[ShardRef]) -> pa.Table:
        """The plan rows of shards that stand in one file, which is read once: whole, where they are all of it."""
        name, rows = shards[0].file, sum(shard.rows for shard in shards)
        whole = next((file for file in plan.files if file.path == name and file.rows == rows), None)
        path = f"{plan.directory}/{name}"
        try:
            with found_damaged():
                if whole is not None:
                    return read_parquet(self._checked(plan, whole))
                with self.store.open_file(path) as opened:
                    groups = sorted({shard.row_group for shard in shards})
                    read = open_parquet(opened).read_row_groups(groups, use_threads=False)
        except DAMAGED as error:
            raise _lost(self.store, path, str(error)) from error
        return _of_shards(read, shards)

    def planned_ids(self, plan: Plan) -> Iterator[pa.Table]:
        """image_id and skip_code of every row of the plan, a table for each of its files."""
        return self.planned_columns(plan, ["image_id", "skip_code"])

    def planned_columns(self, plan: Plan, names: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of every row of the plan, a table for each of its files."""
        for path in (f"{plan.directory}/{file.path}" for file in [*plan.files, *plan.skipped]):
            try:
                with found_damaged(), self.store.open_file(path) as opened:
                    table = read_parquet(opened, names)
            except DAMAGED as error:
                raise _lost(self.store, path, str(error)) from error
            yield table

    def plan_schema(self) -> pa.Schema | None:
        """The columns of the plan's rows, the user's own included; None for a run without rows."""
        for plan in self.plans:
            for file in [*plan.files, *plan.skipped]:
                path = f"{plan.directory}/{file.path}"
                try:
                    with found_damaged(), self.store.open_file(path) as opened:
                        return pq.read_schema(opened)
                except DAMAGED as error:
                    raise _lost(self.store, path, str(error)) from error
        return None

    def skipped(self, plan: Plan) -> Iterator[pa.Table]:
        """Image rows that were never to be rendered, with skip_code and skip_message."""
        for file in plan.skipped:
            yield read_parquet(self._checked(plan, file))

    def committed(self) -> set[int]:
        """Numbers of the shards that lie in data/. Lists once, opens nothing."""
        return set(self.stored())

    def stored(self) -> dict[int, int]:
        """The same, with the bytes of each data file."""
        entries = self.store.list(DATA, recursive=False)
        return {number: entry.size for entry in entries if (number := shard_number(entry.path)) is not None}

    def _checked(self, plan: Plan, file: PlanFile) -> bytes:
        path = f"{plan.directory}/{file.path}"
        try:
            data = self.store.read(path)
        except FileNotFoundError as error:
            raise _lost(self.store, path, "it is missing") from error
        if digest(data) != file.sha256:
            raise _lost(self.store, path, "its sha256 is not the plan's")
        return data


def _of_shards(groups: pa.Table, shards: Sequence[ShardRef]) -> pa.Table:
    """The rows of these shards, from the row groups in which they stand. In runs of before each has its own."""
    if len(groups) == sum(shard.rows for shard in shards):
        return groups
    return groups.filter(pc.is_in(groups["shard"], pa.array([shard.number for shard in shards], pa.int32())))


def _read_plan(store: Store, generation: int) -> Plan | None:
    path = plan_json(generation)
    try:
        return Plan.from_json(store.read(path))
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise _lost(store, path, str(error)) from error


def _lost(store: Store, path: str, why: str) -> Infrastructure:
    return Infrastructure(
        f"{store}/{path}: cannot be used ({why}). It belongs to the plan, without which this run cannot be continued "
        "or proven: restore it from a copy, or start again in a new directory. The pictures in data/ are untouched."
    )


def refuse_foreign(store: Store) -> None:
    """Raises Refused unless a new run may begin in store: it is empty, or holds what unfinished planners left."""
    foreign = sorted({entry.path.split("/")[0] for entry in store.list("")} - {HIDDEN})
    if foreign:
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise Refused(f"output.path {store}: is not empty and not a batchgen run ({shown}). Name a new directory.")


def publish(store: Store, plan: Plan) -> Plan:
    """Make a plan THE plan of its generation; where another planner was first, return that one's plan.

    What _SUCCESS says is gone before: a reader who only looks whether it is there must not take the run for complete.
    """
    if plan.generation:
        store.delete(SUCCESS)
    if store.create(plan_json(plan.generation), seal(plan.to_json())):
        return plan
    theirs = _read_plan(store, plan.generation)
    if theirs is None:
        raise Infrastructure(
            f"{store}/{plan_json(plan.generation)}: was there and is gone. Run the same command again."
        )
    return theirs


def commit(store: Store, data: bytes, footer: Footer) -> Literal["committed", "already"]:
    """Store a finished shard, once. 'already': somebody else's commit of the same plan was there first.

    A refusal is looked at before it is believed: after a lost acknowledgement the object that is in the way is our own.
    Raises OtherPlan where another plan owns the name, Infrastructure where the store gives up.
    """
    path = data_path(footer.shard)
    if store.create(path, data):
        return "committed"
    theirs = owned_footer(store, footer.shard, footer.plan)
    return "committed" if theirs.attempt_id == footer.attempt_id else "already"


def owned_footer(store: Store, shard: int, plan: str) -> Footer:
    """The footer of a data file that must be of this plan. Raises OtherPlan where it is not."""
    path = data_path(shard)
    try:
        with store.open_file(path) as file:
            footer = read_footer(file)
    except DAMAGED as error:
        raise OtherPlan(
            f"{store}/{path}: is in the way and is no shard of ours ({error}). Move it out of {DATA}/."
        ) from error
    if footer.plan != plan:
        raise OtherPlan(f"{store}/{path}: belongs to plan {footer.plan}, ours is {plan}. Two jobs share a directory.")
    return footer


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def read_shard(run: Run, number: int) -> tuple[Footer, pa.Table]:
    """Footer and rows of a data file. Raises Infrastructure where it is missing or unreadable."""
    path = data_path(number)
    try:
        with run.store.open_file(path) as opened:
            return read_facts(opened)
    except FileNotFoundError as error:
        raise Infrastructure(f"{run.store}/{path}: is missing. Run the same command again to render it.") from error
    except DAMAGED as error:
        raise Infrastructure(f"{run.store}/{path}: cannot be read ({error}). Run batchgen doctor.") from error


def read_shards(shards: Sequence[ShardRef], read: Callable[[ShardRef], T], readers: int = READERS) -> Iterator[T]:
    """read() of each shard, in their order, several at a time; only a window of them is held at once."""
    return in_order(shards, read, readers)
