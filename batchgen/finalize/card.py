"""The dataset card: README.md of a run, whose front matter makes `datasets.load_dataset(OUT)` find the pictures.

A pure function of the plans and, once there are any, of the totals. Never says where the input or the output lies.
"""

from __future__ import annotations

import re

import yaml

from batchgen.finalize.metadata import Totals
from batchgen.run.directory import Run
from batchgen.run.plans import Plan
from batchgen.words import visible

DATA_FILES = "data/*.parquet"
_FRONT = {
    "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": DATA_FILES}]}],
    "tags": ["synthetic", "text-to-image", "batchgen"],
}


def dataset_card(run: Run, totals: Totals | None = None) -> str:
    """Markdown with YAML front matter. Without totals: of a run that is not finished."""
    plan = run.plans[0]
    sampling = "\n".join(f"| {key} | {value} |" for key, value in plan.stored["sampling"].items() if value is not None)
    return f"""---
{yaml.safe_dump(_FRONT, sort_keys=False).strip()}
---

# {_title(run)}

{_state(run.planned, totals)}

```python
from datasets import load_dataset
images = load_dataset("path/of/this/directory", split="train")
```

`data/` holds the pictures with their rows, `metadata/` every planned row without the picture, failures included.

| model | {model_name(plan)} |
|---|---|
| revision | {plan.model.revision or "local"} |
| model digest | {plan.model.digest} |
| dtype | {plan.model.dtype} |
{_benchmarks(run)}{sampling}{_cells(run)}

Values of the table are the job's defaults; a row may say otherwise, and its own columns are what was used.
"""


BENCHMARK = ("benchmark", "benchmark_licence", "benchmark_sha256")  # columns of rows that `batchgen import` made


def _benchmarks(run: Run) -> str:
    """Lines that say whose prompts these are, and under which licence."""
    there = run.plan_schema()
    if there is None or not set(BENCHMARK) <= set(there.names):
        return ""
    found = set[tuple[str, ...]]()
    for plan in run.plans:
        for table in run.planned_columns(plan, BENCHMARK):
            rows = table.group_by(list(BENCHMARK), use_threads=False).aggregate([]).to_pylist()
            found |= {tuple(_cell(value) for value in row.values()) for row in rows if row["benchmark"]}
    lines = (f"{name}, licence: {licence}, sha256 of their file: {sha256}" for name, licence, sha256 in sorted(found))
    return "".join(f"| prompts | {line} |\n" for line in lines)


def _cell(value: object) -> str:
    """As it may stand in a table of Markdown."""
    return visible(str(value)).replace("|", "\\|")


def _title(run: Run) -> str:
    return f"Images of {model_name(run.plans[0])}, made elsewhere" if run.is_adopted else "Images made with batchgen"


def _cells(run: Run) -> str:
    """A line of the table for each cell of a sweep, in the order of the job."""
    if run.cells == ["default"]:
        return ""
    return "".join(f"\n| cell | {visible(cell).replace('|', chr(92) + '|')} |" for cell in run.cells)


def model_name(plan: Plan) -> str:
    """The hub's name, or the last part of a local path."""
    path = plan.model.path
    return path if plan.model.revision else path.rstrip("/").rpartition("/")[2]


# What _state() says, of whatever run: how a card that is behind is told from one that somebody edited.
_STATED = re.compile(r"^\d+ images (?:of \d+ planned\b|are planned; this run is not finished\.).*$", re.MULTILINE)


def tells_other_counts(card: str, totals: Totals) -> bool:
    """Whether a card is of another state of the run: of fewer plans, or of none that is finished."""
    return any(line != _state(totals.planned, totals) for line in _STATED.findall(card))


def names_the_pictures(card: str) -> bool:
    """Whether `datasets.load_dataset` finds the pictures by this card."""
    begin, front = (*card.split("---\n", 2), "")[:2]
    try:
        found = yaml.safe_load(front) if not begin else None
    except yaml.YAMLError:
        return False
    return isinstance(found, dict) and DATA_FILES in str(found.get("configs"))


def _state(planned: int, totals: Totals | None) -> str:
    if totals is None:
        return f"{planned} images are planned; this run is not finished."
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(totals.codes.items()))
    failed = f", {totals.failed} failed ({codes})" if totals.failed else ""
    return f"{totals.images} images of {planned} planned{failed}."
