"""One image in words: every fact, and the diffusers code that draws it. Knows rows, no files and no renderer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from batchgen.manifest.naming import DECIDING
from batchgen.models.pipelines import SD3, Pipeline

SNIPPET = """\
import torch
from diffusers import {pipeline}

pipe = {pipeline}.from_pretrained({model}, dtype=torch.{dtype})
image = pipe(
{arguments}
    generator=torch.Generator("cpu").manual_seed({seed}),
).images[0]
"""
ARGUMENTS = tuple(name for name in DECIDING if name not in ("seed", "adapter"))
OPTIONAL = (*(name for name in ARGUMENTS if "prompt" in name and name != "prompt"), "skip_layer_guidance_scale")
LAST = ("sigmas", "versions")  # long, and rarely looked for


def facts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of all that a metadata row says; what is null is left out."""
    for name in [*(name for name in row if name not in LAST), *LAST]:
        value = row.get(name)
        if isinstance(value, str):
            yield name, value if value.isprintable() else repr(value)  # a prompt's line end must not look like a fact
        elif value is not None:
            yield name, json.dumps(value, default=str)


def snippet(row: dict[str, Any], skip_layers: dict[str, Any]) -> str:
    """Python that draws the same picture with diffusers alone; another batch size rounds differently.

    skip_layers: skip_guidance_layers, skip_layer_guidance_start and _stop of the run.
    """
    pipeline = json.loads(row.get("settings") or "{}").get("pipeline", SD3)
    lacks = Pipeline.named(pipeline).lacks if pipeline != SD3 else []
    values = {name: row[name] for name in ARGUMENTS if name not in lacks and (name not in OPTIONAL or row[name])}
    if row["skip_layer_guidance_scale"]:
        values |= skip_layers
    lines = [f"    {name}={value!r}," for name, value in values.items()]
    model = repr(row["model"]) + (f", revision={row['revision']!r}" if row["revision"] else "")
    arguments = "\n".join(lines)
    return SNIPPET.format(pipeline=pipeline, model=model, dtype=row["dtype"], arguments=arguments, seed=row["seed"])
