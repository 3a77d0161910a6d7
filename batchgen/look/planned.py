"""What is wrong with the files of one plan: digests, counts, its index, its fingerprint. Opens no data file."""

from __future__ import annotations

from collections.abc import Iterator

from batchgen.errors import Infrastructure
from batchgen.rows import identity
from batchgen.run.directory import Run
from batchgen.run.layout import plan_json
from batchgen.run.plans import Plan, digest


def plan_problems(run: Run, plan: Plan) -> Iterator[str]:
    """The plan itself was read, so its own digest is right where it has one."""
    name = plan_json(run.plans.index(plan))
    damaged = list(_file_problems(run, plan))
    yield from damaged
    if plan_json(plan.generation) != name:
        yield f"{name}: says that it is generation {plan.generation}"
    # Another version may have made its names by other rules.
    if plan.facts.identity == identity.VERSION and identity.fingerprint(plan.facts.to_dict()) != plan.fingerprint:
        yield f"{name}: its fingerprint is not that of its facts; it was changed after it was planned"
    if not damaged:
        for what, found, said in _counts(run, plan):
            if found != said:
                yield f"{name}: says {said} {what}, and its files hold {found}"


def _file_problems(run: Run, plan: Plan) -> Iterator[str]:
    for file in plan.named_files:
        path = f"{plan.directory}/{file.path}"
        try:
            if digest(run.store.read(path)) != file.sha256:
                yield f"{path}: is not what was planned (sha256 differs)"
        except FileNotFoundError:
            yield f"{path}: is missing; without it the run cannot be continued or proven"


def _counts(run: Run, plan: Plan) -> Iterator[tuple[str, int, int]]:
    """What is counted, how many there are, how many the plan says."""
    try:
        shards = run.shards(plan)
    except Infrastructure:  # already among the problems
        return
    first = sum(one.shards for one in run.plans[: run.plans.index(plan)])
    yield "shards", len(shards), plan.shards
    yield "shards", sum(shard.number == first + at for at, shard in enumerate(shards)), plan.shards
    yield "images", sum(shard.rows for shard in shards), plan.images
    yield "images", sum(file.rows for file in plan.files), plan.images
    yield "skipped images", sum(file.rows for file in plan.skipped), plan.skipped_images
