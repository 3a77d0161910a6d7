"""What made a picture, as text in the form of AUTOMATIC1111's web UI, which many programs read.

    a red circle on two squares
    Negative prompt: blurry
    Steps: 28, Sampler: Euler, Schedule type: Normal, CFG scale: 4.5, Seed: 1, Size: 1024x1024, Model: ...

Its readers look for the settings in the last line, and take quotes around a value as JSON's: what has a comma or a
colon in it needs them, and prompts never have any. Knows rows of the metadata, and not where the text goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from batchgen.export.public import model_name

# By the names of the web UI: those that it knows choose the same there.
SAMPLERS = {"euler": "Euler", "dpmpp_2m": "DPM++ 2M", "euler_ancestral": "Euler a"}
SCHEDULES = {"normal": "Normal", "simple": "Simple", "sgm_uniform": "SGM Uniform", "beta": "Beta"}


def parameters(values: Mapping[str, Any]) -> str:
    """What AUTOMATIC1111's web UI writes for a picture: prompt, negative prompt, and a line of settings."""
    said = _said(values.get("settings"), values.get("versions"))
    settings = said.settings | {name: values[name] for name in said.swept if values.get(name) is not None}
    height, width = values.get("height"), values.get("width")
    pairs = [
        ("Steps", values.get("num_inference_steps")),
        ("Sampler", SAMPLERS.get(settings.get("sampler", ""))),
        ("Schedule type", SCHEDULES.get(settings.get("schedule", ""))),
        ("CFG scale", values.get("guidance_scale")),
        ("Seed", values.get("seed")),
        ("Size", None if height is None or width is None else f"{_number(width)}x{_number(height)}"),
        ("Shift", settings.get("shift")),
        ("Model", model_name(values)),
        ("Version", said.version),
    ]
    last = ", ".join(f"{name}: {_quoted(_number(value))}" for name, value in pairs if value is not None)
    negative = values.get("negative_prompt")
    return "\n".join(
        [values.get("prompt") or "", *([f"Negative prompt: {negative}"] if negative else []), *([last] if last else [])]
    )


class _Said(NamedTuple):
    """What the rows of a run say alike. swept: the settings that columns say. version: of batchgen."""

    settings: dict[str, Any]
    swept: tuple[str, ...]
    version: str | None


@lru_cache(maxsize=64)
def _said(settings: str | None, versions: str | None) -> _Said:
    said = json.loads(settings or "{}")
    version = json.loads(versions or "{}").get("batchgen")
    # Another model's pipeline has the scheduler that comes with it, whatever the job's defaults say.
    loop = {} if "pipeline" in said else said.get("sampling", {})
    return _Said(loop, tuple(said.get("swept", ())), version and f"batchgen {version}")


def _number(value: Any) -> str:
    return str(value).removesuffix(".0") if not isinstance(value, str) else value


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if "," in text or ":" in text or "\n" in text else text
