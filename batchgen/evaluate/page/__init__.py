"""The page of a comparison, as one HTML file that can be mailed: tables, charts, all images side by side, blind votes.

Made of page.html, page.css and page.js beside this file. The page loads nothing but its own pictures and runs no script
but its own, whatever a prompt holds. Knows a comparison that is made, and not how.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pyarrow as pa

from batchgen.errors import Refused
from batchgen.evaluate.charts import charts
from batchgen.evaluate.compared import Comparison
from batchgen.evaluate.page.beside import cut_prompts, provenance
from batchgen.evaluate.tables import tables
from batchgen.evaluate.thumbnails import thumbnails
from batchgen.finalize.metadata import metadata
from batchgen.run.directory import Run
from batchgen.words import redact, visible

MOST_BYTES = 15_000_000  # of JPEGs inside one file, which are a third longer there; of more it becomes a folder
FACTS = [
    "image_id",
    "seed",
    "suspect",
    "truncated_clip_l",
    "truncated_clip_g",
    "truncated_t5",
]


def write(comparison: Comparison, runs: Sequence[tuple[str, Run]], out: Path, command: str) -> Path:
    """Write the page; returns its path. command: what makes this page again.

    Where its pictures are too many for one file, a folder of the same name, with index.html and thumbs/.
    Raises Refused where it cannot be written.
    """
    facts = [_facts(run) for _, run in runs]
    pictures = _pictures(comparison, runs)
    inside = sum(map(len, pictures.values())) <= MOST_BYTES
    folder, page = (out.parent, out) if inside else (out.with_suffix(""), out.with_suffix("") / "index.html")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if inside:
            sources = {
                name: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() for name, jpeg in pictures.items()
            }
        else:
            sources = dict(_files(folder, pictures))
        page.write_text(html(comparison, facts, sources, command), encoding="utf-8", errors="replace")
    except OSError as error:
        raise Refused(f"--out {out}: cannot be written ({error.strerror}). Name another place.") from error
    return page


def html(
    comparison: Comparison,
    facts: Sequence[pd.DataFrame],
    sources: Mapping[str, str],
    command: str,
) -> str:
    """facts: of each run, FACTS by image_id. sources: image_id → where the page finds its picture."""
    style, script = (_beside(f"page.{kind}") for kind in ("css", "js"))
    data = {
        "columns": [cell.name for cell in comparison.cells],
        "runs": [cell.run for cell in comparison.cells],
        "scorers": [ranking.about.scorer for ranking in comparison.rankings],
        "higher": {ranking.about.scorer: ranking.about.higher_is_better for ranking in comparison.rankings},
        "prompts": list(_prompts(comparison, facts, sources)),
    }
    runs = list(dict.fromkeys(cell.run for cell in comparison.cells))
    jinja = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return jinja.from_string(_beside("page.html")).render(
        title="Comparison of " + " and ".join(visible(run) for run in runs),
        notes=comparison.left_out,
        tables=[asdict(table) for table in [*tables(comparison), cut_prompts(comparison, facts)] if table.rows],
        charts=[asdict(chart) for chart in charts(comparison)],
        provenance=provenance(comparison, redact(command)),
        data=data,
        style=style,
        script=script,
        policy=_policy(style, script),
    )


def _policy(style: str, script: str) -> str:
    """What the page may do: show its own pictures, have this style, run this script, and nothing else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        "default-src 'none'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'"
    )


def _beside(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _prompts(
    comparison: Comparison, facts: Sequence[pd.DataFrame], sources: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Each prompt with its lines, a line for each seed, an image for each column."""
    aligned = comparison.aligned
    rows = [frame.to_dict("index") for frame in facts]
    lines: dict[int, list[int]] = {}
    for at, prompt in enumerate(aligned.prompt.tolist()):
        lines.setdefault(prompt, []).append(at)
    for number, prompt in enumerate(aligned.prompts.to_dict("records")):
        found = [_line(comparison, at, rows, sources) for at in lines.get(number, ())]
        yield {
            "text": visible(prompt["prompt"]),
            "key": prompt["benchmark_id"] or str(number),
            "category": "" if prompt["category"] == "all" else prompt["category"],
            "lines": [line for line in found if any(line["images"])],
        }


def _line(
    comparison: Comparison,
    at: int,
    rows: Sequence[Mapping[Any, Mapping[Any, Any]]],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    images: list[dict[str, Any] | None] = []
    seed = None
    for column, (cell, image_id) in enumerate(zip(comparison.cells, comparison.aligned.ids[at], strict=True)):
        row = rows[cell.number].get(image_id)
        if row is None or image_id not in sources:
            images.append(None)
            continue
        seed = row["seed"] if seed is None else seed
        values = {name: float(each[at, column]) for name, each in comparison.values.items()}
        given = {name: value for name, value in values.items() if not math.isnan(value)}
        images.append({"id": image_id, "source": sources[image_id], "scores": given, "notes": _notes(row)})
    return {"seed": None if pd.isna(seed) else str(int(seed)), "images": images}


def _notes(row: Mapping[Any, Any]) -> list[str]:
    cut = any(row[name] is not None for name in FACTS if name.startswith("truncated"))
    return [*(["prompt cut"] if cut else []), *([f"suspect: {row['suspect']}"] if row["suspect"] else [])]


def _facts(run: Run) -> pd.DataFrame:
    tables = [table.select(FACTS) for table in metadata(run, run.committed())]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame.astype(object).where(frame.notna(), None).set_index("image_id")


def _pictures(comparison: Comparison, runs: Sequence[tuple[str, Run]]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number, (_, run) in enumerate(runs):
        columns = [at for at, cell in enumerate(comparison.cells) if cell.number == number]
        wanted = set(comparison.aligned.ids[:, columns].ravel()) - {None}
        found |= thumbnails(run, wanted)
    return found


def _files(folder: Path, pictures: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    (folder / "thumbs").mkdir(exist_ok=True)
    for image_id, jpeg in pictures.items():
        (folder / "thumbs" / f"{image_id}.jpg").write_bytes(jpeg)
        yield image_id, f"thumbs/{image_id}.jpg"
