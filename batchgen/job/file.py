"""Reading a job file: YAML and overrides → a Job, or every mistake in it with its key and the nearest right word.

Knows YAML and pydantic's complaints; what a setting may be, the sections say.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from batchgen.errors import Problem, Refused
from batchgen.job.job import Job
from batchgen.job.model import Model
from batchgen.job.names import meant
from batchgen.job.several import MODELS, names_several, one_by_one, place_of, several
from batchgen.words import nearest

# What pydantic puts into a key's path where a key may be of several kinds.
SEVERAL = "models: {one: {KEY: ...}, other: {KEY: ...}}."
KINDS = ("literal['auto']", "constrained-int", "list[str]", "str", "all", "each", "[key]")


def load_job(path: str | Path, overrides: list[str] | None = None) -> Job:
    """Read a job file, apply `key.key=value` overrides, and validate. Raises Refused with every mistake in it."""
    return job_from(_read(path, overrides), str(path))


def load_jobs(path: str | Path, overrides: list[str] | None = None) -> dict[str, Job]:
    """The same of a file that may name several models: a job for each by its name, or one job named ""."""
    values = _read(path, overrides)
    return several(values, str(path), job_from) if names_several(values) else {"": job_from(values, str(path))}


def _read(path: str | Path, overrides: list[str] | None) -> Any:
    try:
        values = yaml.load(Path(path).read_text("utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, ValueError) as error:
        raise Refused(f"{path}: is not YAML: {error}") from error
    for override in overrides or []:
        _override(values, override)
    return values


def job_from(values: Any, source: str = "job") -> Job:
    """Validate a mapping of sections. Raises Refused with every mistake in it, each with its key."""
    if names_several(values):
        several(values, source, job_from)  # its other mistakes first
        places = {name: place_of(values["output"]["path"], name) for name in values[MODELS]}
        raise Refused(Problem(f"one model is wanted here. {one_by_one(places)}", f"{source}: {MODELS}"))
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        raise Refused(_together([_explain(detail, source) for detail in error.errors()])) from error


def schema() -> dict[str, Any]:
    """JSON Schema of a job file, for editors: what presets fill in is not required."""
    found = Job.model_json_schema()
    found["title"], found["required"] = "batchgen job", ["input", "output"]
    for name in ("Model", "Sampling"):
        found["$defs"][name].pop("required", None)
    found["properties"][MODELS] = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Model"}}
    return found


def _override(values: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not isinstance(values, dict):
        raise Refused(f"--set {override}: write section.key=value, for example sampling.num_inference_steps=28.")
    *sections, last = key.strip().split(".")
    for section in sections:
        if values.get(section) is None:  # missing, or `section:` and no more
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise Refused(f"--set {override}: {section} is not a section.")
    try:
        values[last] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise Refused(f"--set {override}: the value is not YAML: {error}") from error


def _explain(detail: Any, source: str) -> Problem:
    path = [str(part) for part in detail["loc"] if part not in KINDS]
    where = f"{source}: {'.'.join(path)}" if path else source
    if detail["type"] == "extra_forbidden":
        keys = _keys_at(path[:-1])
        found = f"unknown key.{_known(path[-1], keys)}"
        if path[0] == "sweep" and path[-1] in Model.model_fields:
            found = f"is of the model, of which a sweep has one: write several in place of the section model, {SEVERAL}"
            found = found.replace("KEY", path[-1])
        elif path[0] == "sweep" and not found.endswith(listed := _listed(keys)):
            found += listed  # which settings may vary, nobody knows by heart
        return Problem(found, where)
    if detail["type"] == "missing":
        return Problem("is required.", where)
    if detail["type"] in ("model_type", "model_attributes_type"):
        keys = _keys_at(path)
        return Problem(f"is a section, not {detail['input']!r}: write keys in it.{_listed(keys)}", where)
    if detail["type"] == "list_type":
        return Problem(f"is a list: write [{detail['input']}, ...].", where)
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return Problem(f"{message}{shown}", where)


def _known(key: str, keys: list[str]) -> str:
    """The key that is meant; all that there are, where none is like it."""
    ours = meant(key)
    if ours in keys:
        return f" Did you mean {ours}?"
    return nearest(key, keys) or _listed(keys)


def _listed(keys: list[str]) -> str:
    return f" There are: {', '.join(keys)}." if keys else ""


def _together(problems: list[Problem]) -> list[Problem]:
    """One problem for each key: where a key may be one of several types, each type has its own complaint."""
    messages: dict[str, list[str]] = {}
    for problem in problems:
        messages.setdefault(problem.where, []).append(problem.message)
    return [Problem(" Or: ".join(found), where) for where, found in messages.items()]


def _keys_at(path: list[str]) -> list[str]:
    """Names of the fields of the section that a path leads to."""
    section: Any = Job
    annotation: Any = None
    for part in path:
        if get_origin(annotation) is dict:  # the part is a name that the user gave: the section of its value stays
            annotation = None
            continue
        if part.isdecimal():  # of a list, whose section stays too
            continue
        field = section.model_fields.get(part)
        annotation = getattr(field, "annotation", None)
        kinds = [annotation, *_kinds(annotation)]
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is None:
            return []
    return [*section.model_fields, *([] if path else [MODELS])]


def _kinds(annotation: Any) -> Iterator[Any]:
    """What a union is made of, all the way down."""
    for part in get_args(annotation):
        yield part
        yield from _kinds(part)


class _UniqueKeys(yaml.SafeLoader):
    """Plain YAML drops the first of two equal keys without a word; a job file must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Hashable] = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if not isinstance(key, Hashable):
                continue  # the parent says so
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def inline_yaml(value: object) -> str:
    """A value as YAML on one line, whatever is in it."""
    text = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


class _OneLine(yaml.SafeDumper):
    """Text with line ends, controls or anything else that cannot be seen stands in double quotes, spelled out."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        node = super().represent_str(text)
        node.style = None if text.isprintable() else '"'
        return node


_OneLine.add_representer(str, _OneLine.represent_str)
