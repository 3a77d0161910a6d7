"""A job as a run has stored it → the sections of a job, whatever today's version would say of it.

The run was accepted when it was planned: ranges, presets and combinations that are refused today are not looked at, and
fields that a newer version wrote are passed over. Knows the shape of the sections, none of their rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from batchgen.job.job import Job
from batchgen.job.section import Section

S = TypeVar("S", bound=Section)


def stored_job(values: Mapping[str, Any]) -> Job:
    """values: what Job.model_dump(mode="json") gave when the run was planned."""
    return stored_section(Job, values)


def stored_section(kind: type[S], values: Mapping[str, Any]) -> S:
    """One section of a stored job."""
    known = {name: field for name, field in kind.model_fields.items() if name in values}
    return kind.model_construct(**{name: _value(field.annotation, values[name]) for name, field in known.items()})


def _value(annotation: Any, value: Any) -> Any:
    """A mapping becomes the section that stands in its annotation, or a mapping of such sections; so in a list."""
    section = _section_in(annotation)
    if section is not None and isinstance(value, list):
        return [_value(section, one) for one in value]
    if section is None or not isinstance(value, Mapping):
        return value
    if _holds_many(annotation):
        return {name: stored_section(section, one) for name, one in value.items()}
    return stored_section(section, value)


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)


def _holds_many(annotation: Any) -> bool:
    """dict[str, Adapter] holds a section by name."""
    return get_origin(annotation) is dict
