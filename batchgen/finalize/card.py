"""The dataset card: README.md of a run, whose front matter makes `datasets.load_dataset(OUT)` find the pictures.

A pure function of the plans and, once there are any, of the totals and of what was scored since. Never says where the
input or the output lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from batchgen.finalize.contents import contents, in_table
from batchgen.finalize.metadata import Totals
from batchgen.finalize.recipe import recipe
from batchgen.run.directory import Run
from batchgen.run.plans import Plan
from batchgen.weights.licence import UNKNOWN, Licence, known_licence

DATA_FILES = "data/*.parquet"
_CONFIGS = [{"config_name": "default", "data_files": [{"split": "train", "path": DATA_FILES}]}]
_TAGS = ["synthetic", "text-to-image", "batchgen"]
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}


def dataset_card(run: Run, totals: Totals | None = None, safety: Sequence[str] = ()) -> str:
    """Markdown with YAML front matter. Without totals: of a run that is not finished. safety: lines of safety.py."""
    counted = f"\n## What is in it\n\n{_table(contents(run, totals))}" if totals else ""
    return f"""---
{_front(run, totals)}
---

# {title_of(run)}

{_state(run.planned, totals)}

```python
from datasets import load_dataset
images = load_dataset("path/of/this/directory", split="train")
```

`data/` holds the pictures with their rows, `metadata/` every planned row without the picture, failures included.
{counted}
## How it was made

{_table(_made(run))}
A row may say otherwise than the job, and its own columns are what was used.
{_repeated(run)}
## Licence

{_licences(run)}

## Not safe for work

{_safety(safety)}
"""


def _front(run: Run, totals: Totals | None) -> str:
    licence = licence_of(run)
    said: dict[str, Any] = {"license": licence.id}
    said |= {f"license_{key}": value for key, value in (("name", licence.name), ("link", licence.link)) if value}
    said |= {"task_categories": ["text-to-image"], "tags": _TAGS}
    if totals:
        said["size_categories"] = [next((said for most, said in SIZES.items() if totals.images < most), "n>10M")]
    return yaml.safe_dump(said | {"configs": _CONFIGS}, sort_keys=False).strip()


def _table(lines: Iterable[tuple[str, str]]) -> str:
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in lines)


def _made(run: Run) -> Iterable[tuple[str, str]]:
    plan = run.plans[-1]
    model = plan.model
    yield "model", in_table(model_name(plan))
    yield "revision", model.revision or "local"
    yield "model digest", model.digest
    yield "dtype", model.dtype
    for alias, adapter in model.adapters.items():
        yield "LoRA", f"{in_table(alias)}, strength {adapter.scale:g}, sha256 {adapter.sha256}"
    if model.refiner:
        yield "model of the second pass", f"{in_table(_named(model.refiner.path, model.refiner.revision))}"
    yield from _benchmarks(run)
    swept = plan.job.sweep
    for key, value in plan.stored["sampling"].items():
        if said := swept.values_of(key) if key in type(swept).model_fields else []:
            yield key, f"swept: {', '.join(in_table(one) for one in said)}"
        elif value not in (None, {}, "") and not (key == "seed" and plan.stored["sampling"].get("seeds")):
            yield key, in_table(value)


BENCHMARK = ("benchmark", "benchmark_licence", "benchmark_sha256")  # columns of rows that `batchgen import` made


def _benchmarks(run: Run) -> Iterable[tuple[str, str]]:
    """Lines that say whose prompts these are, and under which licence."""
    there = run.plan_schema()
    if there is None or not set(BENCHMARK) <= set(there.names):
        return
    found = set[tuple[str, ...]]()
    for plan in run.plans:
        for table in run.planned_columns(plan, BENCHMARK):
            rows = table.group_by(list(BENCHMARK), use_threads=False).aggregate([]).to_pylist()
            found |= {tuple(in_table(value) for value in row.values()) for row in rows if row["benchmark"]}
    for name, licence, sha256 in sorted(found):
        yield "prompts", f"{name}, licence: {licence}, sha256 of their file: {sha256}"


def _repeated(run: Run) -> str:
    """How anybody makes these images again; nothing for images that were made elsewhere."""
    if run.is_adopted:
        return ""
    plan = run.plans[-1]
    return f"""
## How to repeat it

`batchgen render job.yaml` (batchgen {plan.batchgen}) with this job, an `output.path`, and the table and weights that it
names. The same hardware and versions of libraries, which stand in `metadata/`, give the same bytes.

- digest of the table's content: `{plan.facts.manifest}`
- fingerprint of the whole job: `{plan.fingerprint}`

```yaml
{recipe(run)}
```
"""


def licence_of(run: Run) -> Licence:
    plan = run.plans[-1]
    return UNKNOWN if run.is_adopted else known_licence(plan.model, plan.stored["model"]["preset"])


def _licences(run: Run) -> str:
    plan = run.plans[-1]
    said = f"Of the model ({in_table(model_name(plan))}): {_quoted(licence_of(run))}"
    refine = (plan.stored.get("refine") or {}).get("model")
    if plan.model.refiner and refine:
        said += f"\nOf the model of the second pass: {_quoted(known_licence(plan.model.refiner, refine['preset']))}"
    if plan.model.adapters:
        said += "\nLoRAs have licences of their own, which batchgen does not know.\n"
    return said + "\nThis is quoted and no advice: the licence itself counts."


def _quoted(licence: Licence) -> str:
    head = f"**{licence.title or licence.name or licence.id}**{f', <{licence.link}>' if licence.link else ''}"
    points = "".join(f"\n- {quote}" for quote in licence.quotes)
    return f"{head}\n{points}\n" if points else f"{head}{f' ({licence.short})' if licence.short else ''}\n"


def _safety(lines: Sequence[str]) -> str:
    if lines:
        return "\n".join(lines)
    return "Not scored. `batchgen score OUT --with nsfw` scores the pictures, and says so here."


def title_of(run: Run) -> str:
    return f"Images of {model_name(run.plans[0])}, made elsewhere" if run.is_adopted else "Images made with batchgen"


def model_name(plan: Plan) -> str:
    """The hub's name, or the last part of a local path."""
    return _named(plan.model.path, plan.model.revision)


def _named(path: str, revision: str | None) -> str:
    return path if revision else path.rstrip("/").rpartition("/")[2]


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
