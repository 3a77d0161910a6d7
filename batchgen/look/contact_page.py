"""One HTML file that shows a run: pictures, each with its prompts, settings and what no encoder read. Can be mailed.

Pictures are inside the file, as JPEG no larger than a screen shows them; whatever a prompt holds stays text. Knows the
run directory; reads its metadata and so many pictures as it shows.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import jinja2
import pyarrow.compute as pc

from batchgen.finalize.card import model_name
from batchgen.finalize.metadata import metadata
from batchgen.look import contact_sheet
from batchgen.run import images
from batchgen.run.directory import Run
from batchgen.run.images import Pixels

PATH = "contact_sheet.html"
QUALITY = 90
ENCODERS = {"clip_l": "CLIP-L", "clip_g": "CLIP-G", "t5": "T5"}


def write(run: Run, most: int = contact_sheet.MOST) -> str:
    """Write the page into the run directory; returns its path or URL. Failed rows stand below the pictures."""
    failed: list[dict[str, Any]] = []
    for table in metadata(run, run.committed()):
        failed += table.filter(pc.equal(table["status"], "failed")).to_pylist()
    plan = run.plans[0]
    model = ", ".join(filter(None, [model_name(plan), plan.model.revision, plan.model.dtype]))
    run.store.replace(PATH, page(model, contact_sheet.pictures(run, most), failed, run.planned))
    return f"{run.store}/{PATH}"


def page(
    model: str,
    pictures: Sequence[tuple[Pixels, dict[str, Any]]],
    failed: Sequence[dict[str, Any]],
    planned: int,
) -> bytes:
    """The page. pictures: with their rows of data/; failed: rows of metadata/; model: in words."""
    shown = [
        {"source": _inline(pixels), "row": row, "parameters": parameters(row), "unread": unread(row)}
        for pixels, row in pictures
    ]
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(TEMPLATE)
    text = template.render(pictures=shown, failed=failed, planned=planned, model=model)
    return text.encode("utf-8", "replace")


def parameters(row: dict[str, Any]) -> str:
    """The settings of an image in one line."""
    asked = f" (asked for {row['requested_height']} × {row['requested_width']})" if row["requested_height"] else ""
    skipped = f", skip-layer guidance {row['skip_layer_guidance_scale']:g}" if row["skip_layer_guidance_scale"] else ""
    return (
        f"{row['height']} × {row['width']}{asked}, {row['num_inference_steps']} steps, guidance "
        f"{row['guidance_scale']:g}{skipped}, batch of {row['batch_size']}"
    )


def unread(row: dict[str, Any]) -> list[tuple[str, str]]:
    """For each text that was cut: (encoders, the part they did not read)."""
    cuts: dict[str, list[str]] = {}
    for encoder, name in ENCODERS.items():
        if (cut := row[f"truncated_{encoder}"]) is not None:
            cuts.setdefault(cut, []).append(name)
    return [(" and ".join(names), cut) for cut, names in cuts.items()]


def _inline(pixels: Pixels) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(images.encode(pixels, "jpeg", QUALITY)).decode()


TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ pictures | length }} of {{ planned }} images</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 16px; background: #e2e2e6; color: #1e1e1e }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(256px, 1fr)); gap: 16px }
figure { margin: 0; background: white; padding: 8px; overflow-wrap: anywhere }
img { width: 100%; height: auto; display: block }
figcaption p { margin: 6px 0 0 }
.small { color: #666; font-size: 12px }
.unread { color: #a00; font-size: 12px }
</style>
<h1>{{ pictures | length }} of {{ planned }} images</h1>
<p>{{ model }}</p>
<main>
{%- for picture in pictures %}
{%- set row = picture.row %}
<figure>
<img src="{{ picture.source }}" alt="{{ row.prompt }}">
<figcaption>
<p>{{ row.prompt }}</p>
{%- for name in ("prompt_2", "prompt_3", "negative_prompt") if row[name] %}
<p>{{ name }}: {{ row[name] }}</p>
{%- endfor %}
{%- for encoders, cut in picture.unread %}
<p class="unread">{{ encoders }} did not read: {{ cut }}</p>
{%- endfor %}
{%- if row.negative_overflow %}
<p class="unread">the negative prompt is cut</p>
{%- endif %}
{%- if row.suspect %}
<p class="unread">suspect: {{ row.suspect }}</p>
{%- endif %}
<p class="small">seed {{ row.seed }}, {{ picture.parameters }}
{%- if row.cell != "default" %}<br>cell {{ row.cell }}{% endif %}<br>{{ row.image_id }}</p>
</figcaption>
</figure>
{%- endfor %}
</main>
{%- if failed %}
<h2>{{ failed | length }} failed</h2>
<ul>
{%- for row in failed %}
<li>{{ row.prompt }}: {{ row.error_code }}, {{ row.error_message }}
<span class="small">({{ row.image_id }})</span></li>
{%- endfor %}
</ul>
{%- endif %}
</html>
"""
