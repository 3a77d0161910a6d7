"""`models:` of a job file: several models that get the same rows, settings and seeds, one run each → a job for each.

Each of these jobs is the one that says `model:` and the run's own place, so its run can be continued by either. Knows
the mapping that a file holds; what stands in a job `job` knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from batchgen.errors import Problem, Refused
from batchgen.job.job import Job

MODELS = "models"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # of a directory


def names_several(values: Any) -> bool:
    return isinstance(values, Mapping) and MODELS in values


def one_by_one(places: Mapping[str, str]) -> str:
    """What to do where one model is wanted, in a sentence. places: name of a model → output.path of its run."""
    each = ", ".join(f"{name} in {place}" for name, place in places.items())
    return (
        f"Make a job of each: leave out `{MODELS}`, write as `model` what stands below its name there, and as "
        f"output.path the directory of its run ({each}). A run that is there already is continued."
    )


def place_of(output: str, name: str) -> str:
    """output.path of the run of one of several models."""
    return f"{output.rstrip('/')}/{name}"


def several(values: Mapping[str, Any], source: str, one: Callable[[Any, str], Job]) -> dict[str, Job]:
    """Name → job, in the order of the file. one: makes a job of a mapping. Raises Refused with every mistake, once."""
    models, output = values[MODELS], values.get("output")
    if problems := [*_of_shape(values, source)]:
        raise Refused(problems)
    rest = {name: section for name, section in values.items() if name != MODELS}
    jobs, found = dict[str, Job](), dict[Problem, list[str]]()
    for name, model in models.items():
        mine = rest | {"model": model}
        if isinstance(output, Mapping) and "path" in output:
            mine |= {"output": {**output, "path": place_of(output["path"], name)}}
        try:
            jobs[name] = one(mine, source)
        except Refused as refusal:
            for problem in refusal.problems:
                found.setdefault(_as_written(problem, source, name), []).append(name)
    if found:
        raise Refused([_of_models(problem, names, len(models)) for problem, names in found.items()])
    return jobs


def _of_shape(values: Mapping[str, Any], source: str) -> list[Problem]:
    """What is wrong before any model is looked at."""
    models, where = values[MODELS], f"{source}: {MODELS}"
    if not isinstance(models, Mapping) or not models:
        return [Problem("write a name for each model, and what `model:` would say: {large: {preset: ...}}.", where)]
    problems = [
        Problem(f"{name!r} is to be a directory: write letters, digits, -, _ and dots.", where)
        for name in models
        if not isinstance(name, str) or not NAME.fullmatch(name)
    ]
    if values.get("model") is not None:
        problems.append(
            Problem("stands beside models: say it in each of them, or leave models out.", f"{source}: model")
        )
    output = values.get("output")
    if isinstance(output, Mapping) and "path" in output and not isinstance(output["path"], str):
        problems.append(Problem("write the directory below which each model gets its run.", f"{source}: output.path"))
    return problems


def _as_written(problem: Problem, source: str, name: str) -> Problem:
    """With the key under which the file has it."""
    prefix = f"{source}: model"
    if problem.where == prefix or problem.where.startswith(f"{prefix}."):
        return replace(problem, where=f"{source}: {MODELS}.{name}{problem.where.removeprefix(prefix)}")
    return problem


def _of_models(problem: Problem, names: list[str], count: int) -> Problem:
    """Of a mistake outside of a model's own section: for which models it is one, if not for all."""
    if len(names) == count or f": {MODELS}." in problem.where:
        return problem
    return replace(problem, message=f"{problem.message} (with {', '.join(f'{MODELS}.{name}' for name in names)})")
