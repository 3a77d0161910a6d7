"""A job file on the fake renderer, with its table beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


def job_file(folder: Path, rows: Iterable[dict[str, Any]], **sections: Any) -> str:
    """Its path. sections: what it says besides; its output would go to `run`."""
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    values = {
        "input": {"path": str(folder / "prompts.jsonl")},
        "model": {"preset": "fake"},
        "output": {"path": str(folder / "run")},
    }
    values = {name: {**values.get(name, {}), **sections.get(name, {})} for name in {*values, *sections}}
    (folder / "job.yaml").write_text(yaml.safe_dump(values))
    return str(folder / "job.yaml")
