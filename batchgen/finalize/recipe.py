"""The job that made a run, as YAML that anybody may read: everything that decides pictures, and no place.

Knows the stored job. Of paths only the last part is left: where something lies is nobody's business.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from batchgen.job import Model
from batchgen.job.presets import PRESETS
from batchgen.run.directory import Run
from batchgen.words import redact

SECTIONS = ("input", "model", "sampling", "sweep", "refine")
PLACES = ("offload", "mirror", "config")  # of a model: where it lies or runs
WEIGHTS = "pretrained_model_name_or_path"
_PLACE = re.compile(r"[/~.\\]|[A-Za-z]:[\\/]|\w[\w+.-]*://")  # how what is no name on the hub begins


def recipe(run: Run) -> str:
    """Of the newest plan, which holds what those before it asked for."""
    stored = run.plans[-1].stored
    said = {name: _said(stored[name]) for name in SECTIONS if stored.get(name)}
    said["input"] = {key: _named(value, always=key == "path") for key, value in said["input"].items()}
    said["model"] = _model(stored["model"])
    if said.get("refine", {}).get("model"):
        said["refine"] |= {"model": _model(stored["refine"]["model"])}
    said["output"] = _said({name: stored["output"].get(name) for name in ("image_format", "image_quality")})
    sections = {name: section for name, section in said.items() if section}
    return yaml.safe_dump(sections, sort_keys=False, allow_unicode=True, width=110).strip()


def _said(section: dict[str, Any]) -> dict[str, Any]:
    """Without keys that say nothing."""
    return {key: value for key, value in section.items() if value not in (None, {}, [])}


def _model(section: dict[str, Any]) -> dict[str, Any]:
    """Its preset, and what is not as the preset or every job has it."""
    usual = {name: field.get_default(call_default_factory=True) for name, field in Model.model_fields.items()}
    preset = PRESETS.get(section["preset"])
    usual |= {"preset": None, WEIGHTS: preset and preset.pretrained_model_name_or_path}
    if preset:
        usual["dtype"] = preset.dtype
    own = {key: value for key, value in section.items() if key not in PLACES and value != usual.get(key)}
    if not any(own.get("quantization", {}).values()):
        own.pop("quantization", None)
    if section["preset"] == "demo" and str(own.get(WEIGHTS, "")).endswith("/demo/checkpoint"):
        del own[WEIGHTS]  # where batchgen was installed on another machine
    return {key: _named(value) for key, value in own.items()}


def _named(value: Any, always: bool = False) -> Any:
    """The last part of whatever is a path. always: it is one, whatever it looks like."""
    if isinstance(value, dict):
        return {key: _named(one, always) for key, one in value.items()}
    if isinstance(value, list):
        return [_named(one, always) for one in value]
    if isinstance(value, str) and (always or _PLACE.match(value)):
        return redact(re.split(r"[/\\]", value.rstrip("/\\"))[-1].partition("?")[0])
    return value
